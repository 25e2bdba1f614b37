//! The trace that a request is a part of, on its way through: `traceparent` of W3C Trace Context.
//!
//! Who records nothing hands on what it got, unchanged (§4.3, pass-through); what cannot be read is taken out,
//! together with `tracestate`, so that the app begins a trace of its own.

use http::{HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::RequestHeader;

use crate::telemetry::spans::Recorded;
use crate::telemetry::trace::{TRACEPARENT, TRACESTATE, TraceParent};

/// What a request says of the trace that it is a part of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trace {
    /// Nothing.
    Absent,
    /// What cannot be read, or more than one thing.
    Bad,
    /// Its caller.
    Continued(TraceParent),
}

impl Trace {
    /// What the head of a request says.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter().map(HeaderValue::as_bytes);
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => TraceParent::parse(value).map_or(Self::Bad, Self::Continued),
            (Some(_), Some(_)) => Self::Bad,
        }
    }

    /// The caller, if there is one.
    pub(super) fn caller(self) -> Option<TraceParent> {
        match self {
            Self::Absent | Self::Bad => None,
            Self::Continued(caller) => Some(caller),
        }
    }

    /// Has the backend told of its caller: us, where the request is recorded.
    pub(super) fn hand_on(
        self,
        recorded: Option<Recorded>,
        request: &mut RequestHeader,
    ) -> Result<()> {
        if self == Self::Bad {
            request.remove_header(TRACEPARENT);
            request.remove_header(TRACESTATE);
        }
        match recorded {
            Some(recorded) => {
                if self == Self::Absent {
                    // What it says belongs to no trace of ours.
                    request.remove_header(TRACESTATE);
                }
                request.insert_header(TRACEPARENT, recorded.as_parent().to_string())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    const RIGHT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn one_caller_is_one_and_two_are_none() {
        let of = |values: &[&'static str]| {
            let name = HeaderName::from_static(TRACEPARENT);
            let lines = values.iter().map(|v| (name.clone(), HeaderValue::from_static(v)));
            Trace::of(&lines.collect())
        };
        assert_eq!(of(&[]), Trace::Absent);
        assert_eq!(of(&[RIGHT]).caller().unwrap().to_string(), RIGHT);
        assert_eq!(of(&["x"]), Trace::Bad);
        assert_eq!(of(&[RIGHT, RIGHT]), Trace::Bad);
    }
}
