//! What failures are in gRPC: a status of its own, in a response of 200.

use super::Failure;

/// The status of a call (`google.rpc.Code`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrpcStatus {
    /// It went well.
    Ok,
    /// The caller gave it up.
    Cancelled,
    /// Nobody knows.
    Unknown,
    /// What was asked makes no sense.
    InvalidArgument,
    /// It took too long.
    DeadlineExceeded,
    /// What was asked for is not there.
    NotFound,
    /// What was to be made is there.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// Somebody has used up what he may.
    ResourceExhausted,
    /// Not as things are.
    FailedPrecondition,
    /// Something came in between.
    Aborted,
    /// Beyond the end.
    OutOfRange,
    /// There is no such method.
    Unimplemented,
    /// Something is broken.
    Internal,
    /// Not now; the same call may be made again.
    Unavailable,
    /// Something is lost.
    DataLoss,
    /// Nobody knows who calls.
    Unauthenticated,
}

impl GrpcStatus {
    const ALL: [(Self, &'static str); 17] = [
        (Self::Ok, "OK"),
        (Self::Cancelled, "CANCELLED"),
        (Self::Unknown, "UNKNOWN"),
        (Self::InvalidArgument, "INVALID_ARGUMENT"),
        (Self::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (Self::NotFound, "NOT_FOUND"),
        (Self::AlreadyExists, "ALREADY_EXISTS"),
        (Self::PermissionDenied, "PERMISSION_DENIED"),
        (Self::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Self::FailedPrecondition, "FAILED_PRECONDITION"),
        (Self::Aborted, "ABORTED"),
        (Self::OutOfRange, "OUT_OF_RANGE"),
        (Self::Unimplemented, "UNIMPLEMENTED"),
        (Self::Internal, "INTERNAL"),
        (Self::Unavailable, "UNAVAILABLE"),
        (Self::DataLoss, "DATA_LOSS"),
        (Self::Unauthenticated, "UNAUTHENTICATED"),
    ];

    /// The status of a number, if it is one.
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).map(|(status, _)| *status)
    }

    /// The number, as `grpc-status` has it.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.get(usize::from(self.code())).map_or("UNKNOWN", |(_, name)| name)
    }
}

impl Failure {
    /// What it is in gRPC. `UNAVAILABLE` is what clients try again by themselves.
    pub const fn grpc(self) -> GrpcStatus {
        match self {
            Self::BackendIdle | Self::FirstByteTimeout | Self::TotalTimeout => {
                GrpcStatus::DeadlineExceeded
            }
            Self::BackendInterrupted
            | Self::BackendSilent
            | Self::BackendTls
            | Self::BacklogTimeout
            | Self::BacklogTooDeep
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectionLimit
            | Self::Evicted
            | Self::Maintenance
            | Self::Misdirected
            | Self::NoBackend
            | Self::NoneOpen
            | Self::NoneRested
            | Self::PinLost
            | Self::Shed
            | Self::Unprobed => GrpcStatus::Unavailable,
            Self::ClientIdle | Self::ClientInterrupted | Self::BodyTooSlow => GrpcStatus::Cancelled,
            Self::BodyTooLarge | Self::HeadTooLarge | Self::RateLimited | Self::TargetTooLong => {
                GrpcStatus::ResourceExhausted
            }
            Self::MethodRefused
            | Self::NoUpgrade
            | Self::UnknownCoding
            | Self::UnknownHost
            | Self::UnknownVersion => GrpcStatus::Unimplemented,
            Self::BadChunk
            | Self::BadRequest
            | Self::BadResponse
            | Self::ExpectationFailed
            | Self::HeadTimeout
            | Self::Internal
            | Self::Restricted => GrpcStatus::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Repeat, Retried};
    use super::*;

    #[test]
    fn a_status_is_its_place_in_the_list() {
        for (code, (status, name)) in (0..).zip(GrpcStatus::ALL) {
            assert_eq!((status.code(), status.name()), (code, name));
            assert_eq!(GrpcStatus::of(code), Some(status));
        }
        assert_eq!(GrpcStatus::of(17), None);
    }

    #[test]
    fn what_no_backend_has_seen_and_may_go_well_later_is_tried_again_by_clients() {
        for failure in Failure::ALL {
            let facts = failure.facts();
            assert_ne!(failure.grpc(), GrpcStatus::Ok);
            if facts.retried == Retried::Elsewhere {
                assert_eq!(failure.grpc(), GrpcStatus::Unavailable, "{}", facts.label);
            }
            if facts.repeat == Repeat::Never {
                assert_ne!(failure.grpc(), GrpcStatus::Unavailable, "{}", facts.label);
            }
        }
    }
}
