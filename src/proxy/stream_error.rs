//! What errors of HTTP/2 connections to backends mean: whose fault they are, and whether a request was seen.

use h2::Reason;
use pingora::{Error, ErrorType};

use super::failure::{Failure, Progress};

/// The error of the HTTP/2 library in an error of Pingora, if there is one.
fn cause(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref()
}

/// Whether the backend did not look at the request: any may be sent again then, also one that is not idempotent
/// (RFC 9113 §8.7).
pub(super) fn is_unprocessed(error: &Error) -> bool {
    let Some(cause) = cause(error) else { return false };
    let is_refused = cause.is_reset()
        && matches!(cause.reason(), Some(Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED));
    // A stream that has such an error is beyond the last one that the backend takes (RFC 9113 §6.8): those before it
    // end as if there was none, or with the connection.
    let is_beyond = cause.is_go_away();
    // The head of the request did not leave.
    let is_unsent = cause.is_io()
        && error
            .context
            .as_ref()
            .is_some_and(|context| context.as_str() == "while sending request");
    cause.is_remote() && (is_refused || is_beyond) || is_unsent
}

/// Whether the connection broke, and with it all its streams.
pub(super) fn is_broken(error: &Error) -> bool {
    cause(error).is_some_and(h2::Error::is_io)
}

/// The failure that an error of a stream is; `None`: it is none of HTTP/2.
pub(super) fn failure(error: &Error, progress: Progress) -> Option<Failure> {
    match (cause(error), progress) {
        // The library found it malformed, and reset the stream or closed the connection.
        (Some(cause), _) if cause.is_library() => Some(Failure::BadResponse),
        (Some(_), Progress::Begun) => Some(Failure::BackendInterrupted),
        (Some(_), Progress::Nothing) => Some(Failure::BackendSilent),
        // Pingora found it malformed.
        (None, _) => (*error.etype() == ErrorType::H2Error).then_some(Failure::BadResponse),
    }
}
