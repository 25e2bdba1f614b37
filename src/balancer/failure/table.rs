//! The table: every failure with all that is said about it.

use super::grpc::GrpcStatus;
use super::{Facts, Failure, Level, Party, Repeat, Retried};

/// A second: another backend may have room, or the queue may be shorter.
const AT_ONCE: u32 = 1;

/// What a backend that refused a connection rests, in seconds.
const REST: u32 = 5;

/// What it takes to notice that a backend is well again, by default: an interval of failing probes or two.
const RECOVERY: u32 = 10;

/// When to look again whether an operator is done.
const OPERATOR: u32 = 60;

/// A fault of a backend that may have seen the request.
const fn backend(
    code: &'static str,
    rfc9110: u16,
    label: &'static str,
    text: &'static str,
) -> Facts {
    let (party, level) = (Party::Backend, Level::Error);
    let (retried, repeat) = (Retried::Never, Repeat::Idempotent);
    let (when, retry_after) = ("", None);
    let grpc = GrpcStatus::Unknown;
    let status = 503;
    Facts {
        party,
        code,
        status,
        rfc9110,
        label,
        text,
        when,
        grpc,
        level,
        retried,
        repeat,
        retry_after,
    }
}

/// A fault of the client, which gets the same status everywhere.
const fn client(code: &'static str, status: u16, label: &'static str, text: &'static str) -> Facts {
    let (party, level, repeat) = (Party::Client, Level::Warning, Repeat::Never);
    Facts { party, level, repeat, status, ..backend(code, status, label, text) }
}

/// What a request meets before any backend sees it.
const fn nowhere(
    party: Party,
    code: &'static str,
    label: &'static str,
    text: &'static str,
) -> Facts {
    Facts { party, repeat: Repeat::Any, ..backend(code, 503, label, text) }
}

impl Facts {
    const fn after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    const fn repeat(self, repeat: Repeat) -> Self {
        Self { repeat, ..self }
    }

    const fn retried(self, retried: Retried) -> Self {
        Self { retried, ..self }
    }

    const fn level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    const fn rfc9110(self, rfc9110: u16) -> Self {
        Self { rfc9110, ..self }
    }
}

impl Failure {
    /// What is said about it.
    pub const fn facts(self) -> Facts {
        Facts { when: self.when(), grpc: self.grpc(), ..self.row() }
    }

    const fn row(self) -> Facts {
        match self {
            Self::BackendIdle => backend("H15", 504, "backend_idle", "Idle connection"),
            Self::BackendInterrupted => {
                backend("H18", 502, "backend_interrupted", "Server Request Interrupted")
            }
            Self::BackendSilent => {
                backend("H13", 502, "backend_silent", "Connection closed without response")
                    .retried(Retried::Again)
            }
            Self::BackendTls => {
                nowhere(Party::Backend, "N21", "backend_tls", "No TLS with the backend")
                    .rfc9110(502)
                    .retried(Retried::Elsewhere)
                    .after(REST)
            }
            Self::BacklogTimeout => {
                nowhere(Party::Backend, "N12", "backlog_timeout", "Too long in the queue")
                    .after(AT_ONCE)
            }
            Self::BacklogTooDeep => {
                nowhere(Party::Backend, "H11", "backlog_too_deep", "Backlog too deep")
                    .after(AT_ONCE)
            }
            Self::BadChunk => client("H26", 400, "bad_chunk", "Request Error"),
            Self::BadRequest => client("H26", 400, "bad_request", "Request Error"),
            Self::BadResponse => {
                backend("H17", 502, "bad_response", "Poorly formatted HTTP response").status(502)
            }
            Self::BodyTooLarge => client("N43", 413, "body_too_large", "Request body too large"),
            Self::BodyTooSlow => client("N48", 408, "body_too_slow", "Request body too slow")
                .repeat(Repeat::Idempotent),
            Self::ClientIdle => client("H28", 499, "client_idle", "Client Connection Idle")
                .rfc9110(408)
                .repeat(Repeat::Idempotent),
            Self::ClientInterrupted => {
                client("H27", 499, "client_interrupted", "Client Request Interrupted")
                    .repeat(Repeat::Idempotent)
            }
            Self::ConnectRefused => {
                nowhere(Party::Backend, "H21", "connect_refused", "Backend connection refused")
                    .rfc9110(502)
                    .retried(Retried::Elsewhere)
                    .after(REST)
            }
            Self::ConnectTimeout => {
                nowhere(Party::Backend, "H19", "connect_timeout", "Backend connection timeout")
                    .rfc9110(504)
                    .retried(Retried::Elsewhere)
                    .after(REST)
            }
            Self::ConnectionLimit => {
                nowhere(Party::Backend, "H22", "connection_limit", "Connection limit reached")
                    .after(AT_ONCE)
            }
            Self::Evicted => {
                nowhere(Party::Operator, "N11", "evicted", "Stream ended for a drain or a restart")
                    .repeat(Repeat::Idempotent)
                    .level(Level::Info)
            }
            Self::ExpectationFailed => {
                client("H26", 417, "expectation_failed", "Unsupported expect header value")
            }
            Self::FirstByteTimeout => backend("H12", 504, "first_byte_timeout", "Request timeout"),
            Self::HeadTimeout => {
                client("N47", 408, "head_timeout", "Request head too slow").repeat(Repeat::Any)
            }
            Self::HeadTooLarge => client("N42", 431, "head_too_large", "Request head too large"),
            Self::Internal => nowhere(Party::Edge, "H99", "internal", "Internal error")
                .rfc9110(500)
                .repeat(Repeat::Idempotent),
            Self::Maintenance => nowhere(Party::Operator, "H80", "maintenance", "Maintenance mode")
                .level(Level::Info)
                .after(OPERATOR),
            Self::MethodRefused => client("N45", 405, "method_refused", "Method not allowed"),
            // A client may ask again on a connection for this host (RFC 9110 §15.5.20).
            Self::Misdirected => {
                client("H31", 421, "misdirected", "Misdirected Request").repeat(Repeat::Any)
            }
            Self::NoBackend => {
                nowhere(Party::Operator, "H14", "no_backend", "No backends running").after(OPERATOR)
            }
            Self::NoUpgrade => nowhere(
                Party::Operator,
                "N25",
                "no_upgrade",
                "Backends of this app speak HTTP/2 alone",
            )
            .status(501)
            .rfc9110(501)
            .repeat(Repeat::Never),
            Self::NoneOpen => {
                nowhere(Party::Backend, "H10", "none_open", "No backend takes clients")
                    .after(RECOVERY)
            }
            Self::NoneRested => {
                nowhere(Party::Backend, "H34", "none_rested", "All up backends are quarantined")
                    .after(REST)
            }
            Self::PinLost => {
                nowhere(Party::Backend, "N10", "pin_lost", "The backend of this session is gone")
                    .after(RECOVERY)
            }
            Self::RateLimited => client("N29", 429, "rate_limited", "Too many requests")
                .repeat(Repeat::Any)
                .after(AT_ONCE),
            Self::Restricted => backend("H25", 502, "restricted", "HTTP Restriction").status(502),
            Self::Shed => nowhere(Party::Edge, "N20", "shed", "Overloaded").after(REST),
            Self::TargetTooLong => client("N44", 414, "target_too_long", "Request target too long"),
            Self::TotalTimeout => backend("N15", 504, "total_timeout", "Request took too long"),
            Self::UnknownCoding => {
                client("N46", 501, "unknown_coding", "Transfer coding not implemented")
            }
            Self::UnknownHost => {
                nowhere(Party::Operator, "N04", "unknown_host", "No app serves this host")
                    .status(404)
                    .rfc9110(421)
                    .repeat(Repeat::Never)
                    .level(Level::Warning)
            }
            Self::UnknownVersion => {
                client("N49", 505, "unknown_version", "HTTP version not supported")
            }
            Self::Unprobed => {
                nowhere(Party::Backend, "H20", "unprobed", "App boot timeout").after(REST)
            }
        }
    }

    /// When it happens.
    const fn when(self) -> &'static str {
        match self {
            Self::BackendIdle => {
                "the backend fell silent in the middle of a response, for `timeouts.idle`"
            }
            Self::BackendInterrupted => "the backend broke off in the middle of a response",
            Self::BackendSilent => "the backend closed the connection without a response",
            Self::BackendTls => {
                "TLS with every backend that was tried failed, or its certificate is not the right one"
            }
            Self::BacklogTimeout => {
                "the app or the backend of the pin had too much in hand for the whole time that a request may queue"
            }
            Self::BacklogTooDeep => {
                "the app or the backend of the pin has too much in hand, and its queue is full"
            }
            Self::BadChunk => "the chunks of the request are malformed",
            Self::BadRequest => {
                "what the client sent is not HTTP, has no `Host`, or could be read in two ways"
            }
            Self::BadResponse => "what the backend sent is not HTTP, or could be read in two ways",
            Self::BodyTooLarge => "the body of the request is larger than the app takes",
            Self::BodyTooSlow => {
                "the body of the request came more slowly than the app puts up with"
            }
            Self::ClientIdle => {
                "the client fell silent in the middle of a request, or did not read the response"
            }
            Self::ClientInterrupted => "the client left; nobody is there to be answered",
            Self::ConnectRefused => "every backend that was tried refused the connection",
            Self::ConnectTimeout => {
                "every backend that was tried left the connection unanswered, for `timeouts.connect`"
            }
            Self::ConnectionLimit => {
                "the app has as many requests and streams as it may, `limits.connections`"
            }
            Self::Evicted => {
                "a stream was ended, since its backend, or the process it is with, is to be left and the time for it is over"
            }
            Self::ExpectationFailed => "the client expects what is not `100-continue`",
            Self::FirstByteTimeout => "no first byte of a response within `timeouts.first_byte`",
            Self::HeadTimeout => {
                "the head of the request did not come within `server.head_timeout`"
            }
            Self::HeadTooLarge => "the head of the request has too many fields, or too long ones",
            Self::Internal => "a fault of Homing, or of the machine it runs on",
            Self::Maintenance => "the operator closed the app",
            Self::MethodRefused => "the method is `CONNECT`, which asks for a tunnel",
            Self::Misdirected => {
                "the host is neither the one that the client asked for when it began TLS, nor on the certificate that it was shown"
            }
            Self::NoBackend => "the app has no backend",
            Self::NoUpgrade => {
                "the client asks for another protocol, such as WebSocket, and `backend_protocol` of the app is HTTP/2 alone"
            }
            Self::NoneOpen => {
                "every backend is unhealthy, drained or in maintenance; `homing explain` says which is what"
            }
            Self::NoneRested => {
                "every backend that could serve refused a connection just now, and rests"
            }
            Self::PinLost => {
                "the home of the pin takes nobody, with `on_unavailable: strict`; or is another run of itself, with `on_incarnation_change: refuse`"
            }
            Self::RateLimited => "the client asks more often than it may",
            Self::Restricted => {
                "the head of the response is larger than the app may send, or its length is malformed"
            }
            Self::Shed => "Homing runs out of descriptors or memory, and lets in nobody new",
            Self::TargetTooLong => "the target of the request is longer than the listener takes",
            Self::TotalTimeout => "the whole request took longer than the app gives it",
            Self::UnknownCoding => "the transfer coding of the request is not `chunked`",
            Self::UnknownHost => "no domain leads to an app, and there is no `default_app`",
            Self::UnknownVersion => {
                "the version of the request is neither HTTP/1.0 nor HTTP/1.1; or it is HTTP/1.0, and backends of the app speak HTTP/2 alone"
            }
            Self::Unprobed => "no first verdict of a probe within `timeouts.admission`",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Statuses;
    use super::*;

    /// What is wrong with a request in general: what exactly is in `detail`, as with the Heroku router.
    const SHARED: &str = "H26";

    #[test]
    fn each_failure_has_a_label_and_a_code_of_its_own() {
        let mut seen = HashMap::new();
        for (failure, facts) in Failure::ALL.map(|failure| (failure, failure.facts())) {
            assert_eq!(seen.insert(facts.label, failure), None, "{}", facts.label);
            let other = seen.insert(facts.code, failure);
            assert!(
                other.is_none() || facts.code == SHARED,
                "{}: {failure:?}, {other:?}",
                facts.code
            );
        }
    }

    #[test]
    fn what_is_said_of_a_failure_fits_together() {
        for facts in Failure::ALL.map(Failure::facts) {
            let Facts { label, level, party, repeat, retried, .. } = facts;
            assert!(!facts.when.is_empty() && !facts.when.contains('|'), "{label}");
            assert!((400..600).contains(&facts.status), "{label}");
            assert!((400..600).contains(&facts.rfc9110), "{label}");
            assert!(facts.code.starts_with(['H', 'N']) && facts.code.len() == 3, "{label}");
            // Who is told when to come back is told to come back.
            assert!(facts.retry_after.is_none() || repeat != Repeat::Never, "{label}");
            // What went elsewhere was seen by nobody.
            assert!(retried != Retried::Elsewhere || repeat == Repeat::Any, "{label}");
            assert_eq!(party == Party::Client, level == Level::Warning && label != "unknown_host");
        }
    }

    #[test]
    fn who_meets_a_backend_that_rests_is_told_when_it_has_rested() {
        let resting = [Failure::BackendTls, Failure::ConnectRefused, Failure::ConnectTimeout];
        assert_eq!(resting.map(|failure| failure.facts().retry_after), [Some(REST); 3]);
    }

    #[test]
    fn who_is_let_in_no_more_since_an_app_has_too_much_is_not_at_fault() {
        let limits = [Failure::BacklogTooDeep, Failure::BacklogTimeout, Failure::ConnectionLimit];
        let blamed = |failure: Failure| (failure.facts().party, failure.facts().level);
        assert_eq!(limits.map(blamed), [(Party::Backend, Level::Error); 3]);
    }

    #[test]
    fn the_status_is_that_of_the_heroku_router_unless_the_app_prefers_the_other() {
        let facts = Failure::FirstByteTimeout.facts();
        assert_eq!(facts.with(Statuses::Heroku).status, 503);
        assert_eq!(facts.with(Statuses::Rfc9110).status, 504);
    }
}
