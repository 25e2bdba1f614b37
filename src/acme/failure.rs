//! Why there is no certificate, and what to do about it.

use std::fmt;
use std::io;

use instant_acme::{Error, Problem};

use super::certificate::CertificateError;
use crate::config::acme::Challenge;
use crate::outbound::OutboundError;

/// What the types of problems begin with (RFC 8555 §6.7).
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// Why an order failed.
#[derive(Debug)]
pub(super) enum OrderError {
    /// The server refused, or cannot be spoken with.
    Server(Error),
    /// The server did not find the answer to its challenge.
    Challenge(Challenge, Problem),
    /// The server offers none of the challenges that may be answered.
    NotOffered,
    /// The server takes too long.
    TooSlow,
    /// What the server sent is no certificate for the name.
    Certificate(CertificateError),
    /// A key, a request for a certificate or an answer cannot be made.
    Key(CertificateError),
    /// What must be kept cannot be.
    Kept(io::Error),
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => match problem(error) {
                Some(problem) => said(f, problem),
                None => error.fmt(f),
            },
            Self::Challenge(challenge, problem) => {
                write!(f, "{} failed: ", challenge.as_str())?;
                said(f, problem)
            }
            Self::NotOffered => f.write_str("the server offers no challenge that may be answered"),
            Self::TooSlow => f.write_str("the server takes too long"),
            Self::Certificate(error) => write!(f, "the server sent no certificate: {error}"),
            Self::Key(error) => write!(f, "cannot make a key or what goes with it: {error}"),
            Self::Kept(error) => write!(f, "cannot write to the state directory: {error}"),
        }
    }
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<io::Error> for OrderError {
    fn from(error: io::Error) -> Self {
        Self::Kept(error)
    }
}

impl From<rcgen::Error> for OrderError {
    fn from(error: rcgen::Error) -> Self {
        Self::Key(CertificateError(error.to_string()))
    }
}

impl From<CertificateError> for OrderError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

impl OrderError {
    /// What someone may do about it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Challenge(challenge, problem) => self::challenge(*challenge, kind(problem)),
            Self::Server(error) => match (problem(error), cause(error)) {
                (Some(problem), _) => server(kind(problem)),
                (None, Some(_)) => {
                    "see whether this machine reaches `acme.directory`, and whether `acme.ca` names its authority"
                }
                (None, None) => "see whether `acme.directory` is the URL of a directory",
            },
            Self::NotOffered => "allow another one in `acme.challenges`",
            Self::TooSlow => "nothing: it is asked again",
            Self::Certificate(_) => "ask who runs the server",
            Self::Key(_) => "report it: this is a mistake of Homing",
            Self::Kept(_) => {
                "see to it that Homing may write to its state directory, and that there is room"
            }
        }
    }

    /// Whether another challenge may do better.
    pub(super) fn is_of_challenge(&self) -> bool {
        matches!(self, Self::Challenge(..) | Self::NotOffered)
    }

    /// Whether the server wants to be left alone.
    pub(super) fn is_rate_limited(&self) -> bool {
        matches!(self, Self::Server(error) if problem(error).map(kind) == Some("rateLimited"))
    }

    /// Whether the server does not know our account (any more).
    pub(super) fn is_account_unknown(&self) -> bool {
        matches!(self, Self::Server(error) if problem(error).map(kind) == Some("accountDoesNotExist"))
    }

    /// Whether the server knows best, and an order is not to be taken up again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Server(error) => problem(error).is_some_and(|problem| {
                problem.status < Some(500) && !["badNonce", "rateLimited"].contains(&kind(problem))
            }),
            Self::Challenge(..) | Self::NotOffered | Self::Certificate(_) | Self::Key(_) => true,
            Self::TooSlow | Self::Kept(_) => false,
        }
    }
}

fn problem(error: &Error) -> Option<&Problem> {
    if let Error::Api(problem) = error { Some(problem) } else { None }
}

fn cause(error: &Error) -> Option<&OutboundError> {
    if let Error::Other(cause) = error { cause.downcast_ref() } else { None }
}

/// The type of a problem, without what all of them begin with.
fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or("");
    kind.strip_prefix(NAMESPACE).unwrap_or(kind)
}

fn said(f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
    let detail = problem.detail.as_deref().unwrap_or("the server says no more");
    // It may be anything, and goes to a log.
    let detail: String = detail.chars().take(500).flat_map(char::escape_debug).collect();
    match kind(problem) {
        "" => f.write_str(&detail),
        kind => write!(f, "{detail} ({})", kind.escape_debug()),
    }
}

fn challenge(challenge: Challenge, kind: &str) -> &'static str {
    match (kind, challenge) {
        ("dns", _) => "give the name an address record (A or AAAA) that leads here",
        ("caa", _) => "let the CAA record of the name allow this server, or remove it",
        ("connection" | "tls" | "malformed", Challenge::Http01) => {
            "let port 80 of every address of the name lead to a listener without `tls`"
        }
        ("connection" | "tls" | "malformed", Challenge::TlsAlpn01) => {
            "let port 443 of every address of the name lead to a listener with `tls`, with nothing between that ends TLS"
        }
        ("unauthorized" | "incorrectResponse", Challenge::Http01) => {
            "something else answers on port 80 of the name: let every address of it lead here"
        }
        ("unauthorized" | "incorrectResponse", Challenge::TlsAlpn01) => {
            "something else answers on port 443 of the name: let every address of it lead here"
        }
        _ => "see whether every address of the name leads here, on port 80 and 443",
    }
}

fn server(kind: &str) -> &'static str {
    match kind {
        "accountDoesNotExist" => "nothing: another account is made",
        "alreadyReplaced" => "nothing: it is ordered again",
        "badCSR" | "rejectedIdentifier" | "unsupportedIdentifier" => {
            "the server gives no certificate for this name: take it out of `tls.acme`"
        }
        "caa" => "let the CAA record of the name allow this server, or remove it",
        "externalAccountRequired" => {
            "set `acme.external_account` as the operator of the server says"
        }
        "invalidContact" | "unsupportedContact" => "correct `acme.contact`",
        "rateLimited" => "wait; try things out with the server's staging directory",
        "badNonce" | "serverInternal" => "nothing: it is asked again",
        "unauthorized" => "see whether `acme.external_account` is right and the account in use",
        "userActionRequired" => {
            "the terms of service changed: read and agree to them as the server says"
        }
        _ => "look the problem up in RFC 8555 section 6.7, or ask who runs the server",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let document = serde_json::json!({
            "type": format!("{NAMESPACE}{kind}"), "detail": detail, "status": 400
        });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn what_a_server_says_is_told_in_one_line_with_what_to_do() {
        let error = OrderError::Challenge(Challenge::Http01, problem("dns", "no\nsuch name"));
        assert_eq!(error.to_string(), "http-01 failed: no\\nsuch name (dns)");
        assert!(error.help().contains("address record"));
        let long = OrderError::Server(Error::Api(problem("rateLimited", &"x".repeat(9000))));
        assert!(long.is_rate_limited() && long.to_string().len() < 600);
    }

    #[test]
    fn what_failed_on_the_way_is_tried_with_the_same_order_again() {
        let lost = OutboundError::Unreachable("gone".into());
        let lost = OrderError::Server(Error::Other(Box::new(lost)));
        assert!(!lost.is_final() && lost.help().contains("acme.directory"));
        assert!(OrderError::Server(Error::Api(problem("caa", "no"))).is_final());
        assert!(!OrderError::Server(Error::Api(problem("badNonce", "no"))).is_final());
        assert!(
            OrderError::Server(Error::Api(problem("accountDoesNotExist", ""))).is_account_unknown()
        );
    }
}
