//! What may be wrong with a request as it came over the wire.

/// Why a request is refused before anybody looks at what it asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// A chunk is not followed by CRLF.
    ChunkEnd,
    /// The extension of a chunk is none, or longer than it may be.
    ChunkExtension,
    /// The size of a chunk is none.
    ChunkSize,
    /// A transfer coding in a message of HTTP/1.0, which knows none.
    CodingInOld,
    /// `Transfer-Encoding` is empty, or there more than once.
    CodingMalformed,
    /// A transfer coding other than `chunked`.
    CodingUnknown,
    /// Both a transfer coding and a length.
    CodingWithLength,
    /// `CONNECT` asks for a tunnel.
    Connect,
    /// A control character.
    Control,
    /// An empty line before the request.
    EmptyLine,
    /// The name of a field is none, or a space stands before its colon.
    FieldName,
    /// The value of a field begins or ends with a space, in HTTP/2.
    FieldPadded,
    /// A line is longer than it may be.
    FieldTooLong,
    /// A field that goes on in a second line.
    Folded,
    /// The name of a field that frames the message, written with `_`.
    FramingHidden,
    /// The client left in the middle of the head.
    HeadCut,
    /// The head did not come in time.
    HeadTooSlow,
    /// The head is longer than it may be.
    HeadTooLong,
    /// `Host` and the target name two hosts.
    HostDiffers,
    /// `Host` names none.
    HostMalformed,
    /// No `Host` in HTTP/1.1.
    HostMissing,
    /// `Host` is there more than once.
    HostTwice,
    /// `Content-Length` is no number, or a list.
    LengthMalformed,
    /// `Content-Length` is there more than once, and says the same.
    LengthRepeated,
    /// `Content-Length` is there more than once, and does not say the same.
    LengthsDiffer,
    /// A line that does not end with CRLF, or a CR that ends none.
    LineEnd,
    /// The method is none.
    Method,
    /// `Connection` names what concerns more than one connection, or too many fields, or none.
    Nomination,
    /// The first line is none.
    RequestLine,
    /// The target is none.
    Target,
    /// The target holds bytes beyond ASCII.
    TargetEightBit,
    /// The target is longer than it may be.
    TargetTooLong,
    /// More fields than there may be.
    TooManyFields,
    /// What follows the last chunk is no trailer, or longer than it may be.
    Trailer,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    Version,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::ChunkEnd,
        Self::ChunkExtension,
        Self::ChunkSize,
        Self::CodingInOld,
        Self::CodingMalformed,
        Self::CodingUnknown,
        Self::CodingWithLength,
        Self::Connect,
        Self::Control,
        Self::EmptyLine,
        Self::FieldName,
        Self::FieldPadded,
        Self::FieldTooLong,
        Self::Folded,
        Self::FramingHidden,
        Self::HeadCut,
        Self::HeadTooSlow,
        Self::HeadTooLong,
        Self::HostDiffers,
        Self::HostMalformed,
        Self::HostMissing,
        Self::HostTwice,
        Self::LengthMalformed,
        Self::LengthRepeated,
        Self::LengthsDiffer,
        Self::LineEnd,
        Self::Method,
        Self::Nomination,
        Self::RequestLine,
        Self::Target,
        Self::TargetEightBit,
        Self::TargetTooLong,
        Self::TooManyFields,
        Self::Trailer,
        Self::Version,
    ];

    /// What the log calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChunkEnd => "chunk without CRLF",
            Self::ChunkExtension => "bad chunk extension",
            Self::ChunkSize => "bad chunk size",
            Self::CodingInOld => "transfer coding in HTTP/1.0",
            Self::CodingMalformed => "bad transfer coding",
            Self::CodingUnknown => "unknown transfer coding",
            Self::CodingWithLength => "transfer coding and content length",
            Self::Connect => "CONNECT",
            Self::Control => "control character",
            Self::EmptyLine => "empty line before the request",
            Self::FieldName => "bad field name",
            Self::FieldPadded => "field value with spaces around",
            Self::FieldTooLong => "field too long",
            Self::Folded => "folded field",
            Self::FramingHidden => "framing field with underscore",
            Self::HeadCut => "head cut off",
            Self::HeadTooSlow => "head too slow",
            Self::HeadTooLong => "head too long",
            Self::HostDiffers => "host differs from target",
            Self::HostMalformed => "bad host",
            Self::HostMissing => "no host",
            Self::HostTwice => "host twice",
            Self::LengthMalformed => "bad content length",
            Self::LengthRepeated => "content length twice",
            Self::LengthsDiffer => "content lengths differ",
            Self::LineEnd => "line without CRLF",
            Self::Method => "bad method",
            Self::Nomination => "bad connection field",
            Self::RequestLine => "bad request line",
            Self::Target => "bad target",
            Self::TargetEightBit => "target beyond ASCII",
            Self::TargetTooLong => "target too long",
            Self::TooManyFields => "too many fields",
            Self::Trailer => "bad trailer",
            Self::Version => "unknown version",
        }
    }
}

/// What an app puts up with, of the faults that some clients need and that no two parsers read in two ways.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lenient {
    /// An empty line before a request, as old clients send it after a body (RFC 9112 §2.2).
    pub empty_line: bool,
    /// `Content-Length` more than once with the same value (RFC 9110 §8.6). Backends get it once.
    pub equal_lengths: bool,
    /// Bytes beyond ASCII in the target, as from clients that do not encode UTF-8. Backends get them as they are.
    pub target_eight_bit: bool,
}

impl Lenient {
    /// Whether this puts up with anything that strictness refuses for `fault`.
    pub fn forgives(self, fault: Fault) -> bool {
        (fault == Fault::EmptyLine && self.empty_line)
            || (fault == Fault::LengthRepeated && self.equal_lengths)
            || (fault == Fault::TargetEightBit && self.target_eight_bit)
    }
}
