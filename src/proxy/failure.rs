//! Everything that can go wrong with a request, by party at fault: one table.

use pingora::{Error, ErrorSource, ErrorType};

use crate::balancer::app::live::Connect;
use crate::balancer::assign::Refusal;
use crate::telemetry::record::{Facts, Party};

/// Errors of a connect that are no word of the backend (Linux): EPERM, EACCES, EADDRNOTAVAIL.
const OUR_FAULT: [i32; 3] = [1, 13, 99];

/// Errors of a connect that say that we ran out of something (Linux): ENOMEM, ENFILE, EMFILE, ENOBUFS.
const RAN_OUT: [i32; 4] = [12, 23, 24, 105];

/// Pingora's names for a body whose chunks are none.
const BAD_CHUNKS: [&str; 2] = ["InvalidChunk", "InvalidTrailerEnd"];

/// How a request failed. The codes are those of the Heroku router where they fit; `N` begins our own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The backend fell silent in the middle of a response.
    BackendIdle,
    /// The backend closed the connection in the middle of a response.
    BackendInterrupted,
    /// The backend closed the connection without a response.
    BackendSilent,
    /// No TLS with the backend.
    BackendTls,
    /// The app or the backend of the pin had too much in hand, and a place in the queue did not help in time.
    BacklogTimeout,
    /// The app or the backend of the pin has too much in hand, and its queue is full.
    BacklogTooDeep,
    /// The chunks of the request are none.
    BadChunk,
    /// What the client sent is not HTTP, or could be read in two ways.
    BadRequest,
    /// What the backend sent is not HTTP.
    BadResponse,
    /// The body of the request is larger than the app takes.
    BodyTooLarge,
    /// The body of the request comes more slowly than the app puts up with.
    BodyTooSlow,
    /// The client fell silent in the middle of a request, or did not read the response.
    ClientIdle,
    /// The client left.
    ClientInterrupted,
    /// Every backend that was tried refused the connection.
    ConnectRefused,
    /// Every backend that was tried left the connection unanswered.
    ConnectTimeout,
    /// The client, the app or the listener has as many connections as it may.
    ConnectionLimit,
    /// We ended a stream whose backend is to be left: the operator's wish, and nobody's fault. A kind of its
    /// own, since the response breaks off, and who looks at it is to see why.
    Evicted,
    /// The client expects what is not `100-continue`.
    ExpectationFailed,
    /// The backend did not begin to answer in time.
    FirstByteTimeout,
    /// The head of the request did not come in time.
    HeadTimeout,
    /// The head of the request has too many fields, or too long ones.
    HeadTooLarge,
    /// A fault of Homing.
    Internal,
    /// The operator closed the app.
    Maintenance,
    /// The method is `CONNECT`, which asks for a tunnel.
    MethodRefused,
    /// The host of the request is not served on this connection.
    Misdirected,
    /// The app has no backend.
    NoBackend,
    /// No backend takes new clients.
    NoneOpen,
    /// Every backend refused a connection and rests.
    NoneRested,
    /// The home of the pin takes nobody, and the app prefers an error over a move.
    PinLost,
    /// The client asks more often than it may.
    RateLimited,
    /// The head of the response is larger than the app may send, or its length is none.
    Restricted,
    /// We run out of descriptors or memory, and let in nobody new.
    Shed,
    /// The target of the request is longer than the listener takes.
    TargetTooLong,
    /// The whole request took longer than the app gives it.
    TotalTimeout,
    /// The transfer coding of the request is not `chunked`.
    UnknownCoding,
    /// No app serves this host.
    UnknownHost,
    /// The version of the request is neither HTTP/1.0 nor HTTP/1.1.
    UnknownVersion,
    /// No backend was found to be healthy in time.
    Unprobed,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::BackendIdle,
        Self::BackendInterrupted,
        Self::BackendSilent,
        Self::BackendTls,
        Self::BacklogTimeout,
        Self::BacklogTooDeep,
        Self::BadChunk,
        Self::BadRequest,
        Self::BadResponse,
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::ClientIdle,
        Self::ClientInterrupted,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectionLimit,
        Self::Evicted,
        Self::ExpectationFailed,
        Self::FirstByteTimeout,
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::Internal,
        Self::Maintenance,
        Self::MethodRefused,
        Self::Misdirected,
        Self::NoBackend,
        Self::NoneOpen,
        Self::NoneRested,
        Self::PinLost,
        Self::RateLimited,
        Self::Restricted,
        Self::Shed,
        Self::TargetTooLong,
        Self::TotalTimeout,
        Self::UnknownCoding,
        Self::UnknownHost,
        Self::UnknownVersion,
        Self::Unprobed,
    ];

    /// What is said about it.
    pub fn facts(self) -> Facts {
        use Party::{Backend, Client, Edge, Operator};
        let (party, code, status, rfc9110, label, text) = match self {
            Self::BackendIdle => (Backend, "H15", 503, 504, "backend_idle", "Idle connection"),
            Self::BackendInterrupted => {
                (Backend, "H18", 503, 502, "backend_interrupted", "Server Request Interrupted")
            }
            Self::BackendSilent => {
                (Backend, "H13", 503, 502, "backend_silent", "Connection closed without response")
            }
            Self::BackendTls => {
                (Backend, "N21", 503, 502, "backend_tls", "No TLS with the backend")
            }
            Self::BacklogTimeout => {
                (Backend, "N12", 503, 503, "backlog_timeout", "Too long in the queue")
            }
            Self::BacklogTooDeep => {
                (Backend, "H11", 503, 503, "backlog_too_deep", "Backlog too deep")
            }
            Self::BadChunk => (Client, "H26", 400, 400, "bad_chunk", "Request Error"),
            Self::BadRequest => (Client, "H26", 400, 400, "bad_request", "Request Error"),
            Self::BadResponse => {
                (Backend, "H17", 502, 502, "bad_response", "Poorly formatted HTTP response")
            }
            Self::BodyTooLarge => {
                (Client, "N43", 413, 413, "body_too_large", "Request body too large")
            }
            Self::BodyTooSlow => {
                (Client, "N48", 408, 408, "body_too_slow", "Request body too slow")
            }
            Self::ClientIdle => (Client, "H28", 499, 408, "client_idle", "Client Connection Idle"),
            Self::ClientInterrupted => {
                (Client, "H27", 499, 499, "client_interrupted", "Client Request Interrupted")
            }
            Self::ConnectRefused => {
                (Backend, "H21", 503, 502, "connect_refused", "Backend connection refused")
            }
            Self::ConnectTimeout => {
                (Backend, "H19", 503, 504, "connect_timeout", "Backend connection timeout")
            }
            Self::ConnectionLimit => {
                (Client, "H22", 503, 503, "connection_limit", "Connection limit reached")
            }
            Self::Evicted => {
                (Operator, "N11", 503, 503, "evicted", "Stream ended for a drain or a restart")
            }
            Self::ExpectationFailed => {
                (Client, "H26", 417, 417, "expectation_failed", "Unsupported expect header value")
            }
            Self::FirstByteTimeout => {
                (Backend, "H12", 503, 504, "first_byte_timeout", "Request timeout")
            }
            Self::HeadTimeout => (Client, "N47", 408, 408, "head_timeout", "Request head too slow"),
            Self::HeadTooLarge => {
                (Client, "N42", 431, 431, "head_too_large", "Request head too large")
            }
            Self::Internal => (Edge, "H99", 503, 500, "internal", "Internal error"),
            Self::Maintenance => (Operator, "H80", 503, 503, "maintenance", "Maintenance mode"),
            Self::MethodRefused => {
                (Client, "N45", 405, 405, "method_refused", "Method not allowed")
            }
            Self::Misdirected => (Client, "H31", 421, 421, "misdirected", "Misdirected Request"),
            Self::NoBackend => (Operator, "H14", 503, 503, "no_backend", "No backends running"),
            Self::NoneOpen => (Backend, "H10", 503, 503, "none_open", "No backend takes clients"),
            Self::NoneRested => {
                (Backend, "H34", 503, 503, "none_rested", "All up backends are quarantined")
            }
            Self::PinLost => {
                (Backend, "N10", 503, 503, "pin_lost", "The backend of this session is gone")
            }
            Self::RateLimited => (Client, "N29", 429, 429, "rate_limited", "Too many requests"),
            Self::Restricted => (Backend, "H25", 502, 502, "restricted", "HTTP Restriction"),
            Self::Shed => (Edge, "N20", 503, 503, "shed", "Overloaded"),
            Self::TargetTooLong => {
                (Client, "N44", 414, 414, "target_too_long", "Request target too long")
            }
            Self::TotalTimeout => {
                (Backend, "N15", 503, 504, "total_timeout", "Request took too long")
            }
            Self::UnknownCoding => {
                (Client, "N46", 501, 501, "unknown_coding", "Transfer coding not implemented")
            }
            Self::UnknownHost => {
                (Operator, "N04", 404, 421, "unknown_host", "No app serves this host")
            }
            Self::UnknownVersion => {
                (Client, "N49", 505, 505, "unknown_version", "HTTP version not supported")
            }
            Self::Unprobed => (Backend, "H20", 503, 503, "unprobed", "App boot timeout"),
        };
        Facts { party, code, status, rfc9110, label, text }
    }

    /// The failure that a refusal is. `connect` tells how the last attempt to connect failed, if
    /// there was one: that says more than that nothing is left.
    pub(super) fn refused(refusal: Refusal, connect: Option<Self>) -> Self {
        match refusal {
            Refusal::BacklogTimeout => Self::BacklogTimeout,
            Refusal::BacklogTooDeep => Self::BacklogTooDeep,
            Refusal::ConnectionLimit => Self::ConnectionLimit,
            Refusal::Shed => Self::Shed,
            Refusal::Maintenance => Self::Maintenance,
            Refusal::NoBackend => Self::NoBackend,
            Refusal::NoneOpen(_) => connect.unwrap_or(Self::NoneOpen),
            Refusal::NoneRested(_) => connect.unwrap_or(Self::NoneRested),
            Refusal::PinLost(_) => connect.unwrap_or(Self::PinLost),
            Refusal::Unknown(_) => Self::Unprobed,
        }
    }

    /// How an attempt to connect that failed this way is counted.
    pub(super) fn as_connect(self) -> Connect {
        if self == Self::ConnectRefused {
            Connect::Refused
        } else if self == Self::ConnectTimeout {
            Connect::TimedOut
        } else {
            Connect::Failed
        }
    }

    /// How an attempt to connect failed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
    pub(super) fn connecting(error: &Error) -> Self {
        let cause = error.root_cause().downcast_ref::<std::io::Error>();
        match cause.and_then(std::io::Error::raw_os_error) {
            Some(code) if RAN_OUT.contains(&code) => return Self::Shed,
            Some(code) if OUR_FAULT.contains(&code) => return Self::Internal,
            Some(_) | None => {}
        }
        match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Self::ConnectTimeout,
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
                Self::BackendTls
            }
            _ => Self::ConnectRefused,
        }
    }

    /// What an error of Pingora is, given how far the response got.
    pub(super) fn proxying(error: &Error, progress: Progress) -> Self {
        match error.esource() {
            ErrorSource::Downstream => Self::of_client(error),
            ErrorSource::Upstream => Self::of_backend(error, progress),
            ErrorSource::Internal | ErrorSource::Unset => Self::Internal,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
    fn of_client(error: &Error) -> Self {
        match error.etype() {
            ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::H2Error => {
                Self::BadRequest
            }
            ErrorType::Custom(name) if BAD_CHUNKS.contains(name) => Self::BadRequest,
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::ClientIdle,
            _ => Self::ClientInterrupted,
        }
    }

    fn of_backend(error: &Error, progress: Progress) -> Self {
        match (error.etype(), progress) {
            (ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::InvalidH2, _) => {
                Self::BadResponse
            }
            (ErrorType::ReadTimedout, Progress::Nothing) => Self::FirstByteTimeout,
            (ErrorType::ReadTimedout | ErrorType::WriteTimedout, _) => Self::BackendIdle,
            (_, Progress::Nothing) => Self::BackendSilent,
            (_, Progress::Begun) => Self::BackendInterrupted,
        }
    }
}

/// How far a response got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// Its head went to the client.
    Begun,
    /// Nothing of it was seen.
    Nothing,
}
