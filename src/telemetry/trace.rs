//! The trace that a request is a part of: `traceparent` of W3C Trace Context, level 1.

use std::fmt;

use serde::{Serialize, Serializer};

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The name of the header that says more to who understands it.
pub const TRACESTATE: &str = "tracestate";

/// Whether who called us records what it does.
const SAMPLED: u8 = 1;

/// The id of a trace; never zero.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span within a trace; never zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanId(pub [u8; 8]);

/// What a caller says of the trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span of the caller.
    pub parent: SpanId,
    flags: u8,
}

impl TraceParent {
    /// Reads the value of the header (§3.2). Of versions that came later, what this one knows.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(55)?;
        let version = hex::<1>(&head[..2])?[0];
        let whole = rest.is_empty() || (version > 0 && rest[0] == b'-');
        let dashes = [2, 35, 52].iter().all(|place| head[*place] == b'-');
        let trace = TraceId(hex(&head[3..35])?);
        let parent = SpanId(hex(&head[36..52])?);
        let flags = hex::<1>(&head[53..])?[0];
        let is_right = version != 0xff && trace.0 != [0; 16] && parent.0 != [0; 8];
        (whole && dashes && is_right).then_some(Self { trace, parent, flags })
    }

    /// A caller that records what it does.
    pub fn sampled(trace: TraceId, parent: SpanId) -> Self {
        Self { trace, parent, flags: SAMPLED }
    }

    /// Whether the caller records what it does.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-", self.trace)?;
        self.parent.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        // What else may be set means nothing in the version that we write.
        write!(f, "-{:02x}", self.flags & SAMPLED)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes in lower-case hexadecimal, as the header must have them.
fn hex<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_again() {
        let parent = TraceParent::parse(RIGHT.as_bytes()).unwrap();
        assert_eq!(parent.to_string(), RIGHT);
        assert!(parent.is_sampled());
        let not = RIGHT.replace("-01", "-00");
        assert!(!TraceParent::parse(not.as_bytes()).unwrap().is_sampled());
        // Flags that nobody knows yet are not handed on.
        let more = TraceParent::parse(RIGHT.replace("-01", "-ff").as_bytes()).unwrap();
        assert_eq!(more.to_string(), RIGHT);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in
            [RIGHT.replace("00-0", "cc-0"), RIGHT.replace("00-0", "01-0") + "-what-is-next"]
        {
            assert_eq!(TraceParent::parse(later.as_bytes()).unwrap().to_string(), RIGHT);
        }
    }

    #[test]
    fn what_is_not_as_the_standard_has_it_is_none() {
        for wrong in [
            "",
            "00",
            &RIGHT[..54],
            &format!("{RIGHT}-"),
            &format!("{RIGHT}0"),
            &RIGHT.replace("00-0", "ff-0"),
            &RIGHT.replace("00-0", "01-0").replace("-01", "-01x"),
            &RIGHT.to_uppercase(),
            &RIGHT.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319ä-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
