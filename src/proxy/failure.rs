//! Everything that can go wrong with a request, by party at fault: one table.

use pingora::{Error, ErrorSource, ErrorType};

use crate::balancer::app::live::Connect;
use crate::balancer::assign::Refusal;
use crate::telemetry::record::{Facts, Party};

/// Errors of a connect that are no word of the backend (Linux): EPERM, ENOMEM, EACCES, ENFILE, EMFILE,
/// EADDRNOTAVAIL, ENOBUFS. We ran out of something.
const OUR_FAULT: [i32; 7] = [1, 12, 13, 23, 24, 99, 105];

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
    /// What the backend sent is not HTTP.
    BadResponse,
    /// What the client sent is not HTTP, or not enough of it.
    BadRequest,
    /// The client fell silent in the middle of a request, or did not read the response.
    ClientIdle,
    /// The client left.
    ClientInterrupted,
    /// Every backend that was tried refused the connection.
    ConnectRefused,
    /// Every backend that was tried left the connection unanswered.
    ConnectTimeout,
    /// We ended a stream whose backend is to be left: the operator's wish, and nobody's fault. A kind of its
    /// own, since the response breaks off, and who looks at it is to see why.
    Evicted,
    /// The backend did not begin to answer in time.
    FirstByteTimeout,
    /// A fault of Homing.
    Internal,
    /// The operator closed the app.
    Maintenance,
    /// The app has no backend.
    NoBackend,
    /// No backend is healthy.
    NoneOpen,
    /// Every backend refused a connection and rests.
    NoneRested,
    /// The home of the pin takes nobody, and the app prefers an error over a move.
    PinLost,
    /// No backend was found to be healthy in time.
    Unprobed,
    /// No app serves this host.
    UnknownHost,
}

impl Failure {
    /// What is said about it.
    pub fn facts(self) -> Facts {
        use Party::{Backend, Client, Edge, Operator};
        let (party, code, status, label, text) = match self {
            Self::BackendIdle => (Backend, "H15", 503, "backend_idle", "Idle connection"),
            Self::BackendInterrupted => {
                (Backend, "H18", 503, "backend_interrupted", "Server Request Interrupted")
            }
            Self::BackendSilent => {
                (Backend, "H13", 503, "backend_silent", "Connection closed without response")
            }
            Self::BackendTls => (Backend, "N21", 503, "backend_tls", "No TLS with the backend"),
            Self::BadResponse => {
                (Backend, "H17", 502, "bad_response", "Poorly formatted HTTP response")
            }
            Self::BadRequest => (Client, "H26", 400, "bad_request", "Request Error"),
            Self::ClientIdle => (Client, "H28", 499, "client_idle", "Client Connection Idle"),
            Self::ClientInterrupted => {
                (Client, "H27", 499, "client_interrupted", "Client Request Interrupted")
            }
            Self::ConnectRefused => {
                (Backend, "H21", 503, "connect_refused", "Backend connection refused")
            }
            Self::ConnectTimeout => {
                (Backend, "H19", 503, "connect_timeout", "Backend connection timeout")
            }
            Self::Evicted => {
                (Operator, "N11", 503, "evicted", "Stream ended for a drain or a restart")
            }
            Self::FirstByteTimeout => {
                (Backend, "H12", 503, "first_byte_timeout", "Request timeout")
            }
            Self::Internal => (Edge, "H99", 503, "internal", "Internal error"),
            Self::Maintenance => (Operator, "H80", 503, "maintenance", "Maintenance mode"),
            Self::NoBackend => (Operator, "H14", 503, "no_backend", "No backends running"),
            Self::NoneOpen => (Backend, "H10", 503, "none_open", "No backend is healthy"),
            Self::NoneRested => {
                (Backend, "H34", 503, "none_rested", "All up backends are quarantined")
            }
            Self::PinLost => {
                (Backend, "N10", 503, "pin_lost", "The backend of this session is gone")
            }
            Self::Unprobed => (Backend, "H20", 503, "unprobed", "App boot timeout"),
            Self::UnknownHost => (Operator, "N04", 404, "unknown_host", "No app serves this host"),
        };
        Facts { party, code, status, label, text }
    }

    /// The failure that a refusal is. `connect` tells how the last attempt to connect failed, if
    /// there was one: that says more than that nothing is left.
    pub(super) fn refused(refusal: Refusal, connect: Option<Self>) -> Self {
        match refusal {
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
        if cause
            .and_then(std::io::Error::raw_os_error)
            .is_some_and(|code| OUR_FAULT.contains(&code))
        {
            return Self::Internal;
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
