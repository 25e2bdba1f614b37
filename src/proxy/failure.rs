//! From what Pingora and the decision say to the failure that it is. The table of failures is
//! [`crate::balancer::failure`].

use pingora::{Error, ErrorSource, ErrorType};

use super::stream_error;
use crate::balancer::app::live::Connect;
use crate::balancer::assign::Refusal;
pub use crate::balancer::failure::Failure;
use crate::wire::fault::Fault;

/// Errors of a connect that are no word of the backend (Linux): EPERM, EACCES, EADDRNOTAVAIL.
const OUR_FAULT: [i32; 3] = [1, 13, 99];

/// Errors of a connect that say that we ran out of something (Linux): ENOMEM, ENFILE, EMFILE, ENOBUFS.
const RAN_OUT: [i32; 4] = [12, 23, 24, 105];

impl Failure {
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

    /// The failure that a fault of the request as it came is.
    pub(super) fn of(fault: Fault) -> Self {
        match fault {
            Fault::ChunkEnd | Fault::ChunkExtension | Fault::ChunkSize | Fault::Trailer => {
                Self::BadChunk
            }
            Fault::CodingUnknown => Self::UnknownCoding,
            Fault::Connect => Self::MethodRefused,
            Fault::FieldTooLong | Fault::HeadTooLong | Fault::TooManyFields => Self::HeadTooLarge,
            Fault::HeadCut => Self::ClientInterrupted,
            Fault::HeadTooSlow => Self::HeadTimeout,
            Fault::TargetTooLong => Self::TargetTooLong,
            Fault::Version => Self::UnknownVersion,
            Fault::CodingInOld
            | Fault::CodingMalformed
            | Fault::CodingWithLength
            | Fault::Control
            | Fault::EmptyLine
            | Fault::FieldName
            | Fault::FieldPadded
            | Fault::Folded
            | Fault::FramingHidden
            | Fault::HostDiffers
            | Fault::HostMalformed
            | Fault::HostMissing
            | Fault::HostTwice
            | Fault::LengthMalformed
            | Fault::LengthRepeated
            | Fault::LengthsDiffer
            | Fault::LineEnd
            | Fault::Method
            | Fault::Nomination
            | Fault::RequestLine
            | Fault::Target
            | Fault::TargetEightBit => Self::BadRequest,
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
            // A kept connection that the backend was just closing: nothing of the request was sent.
            ErrorType::H2Error => Self::BackendSilent,
            ErrorType::HandshakeError if stream_error::is_broken(error) => Self::BackendSilent,
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
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::ClientIdle,
            _ => Self::ClientInterrupted,
        }
    }

    fn of_backend(error: &Error, progress: Progress) -> Self {
        if let Some(failure) = stream_error::failure(error, progress) {
            return failure;
        }
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
