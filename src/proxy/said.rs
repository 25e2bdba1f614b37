//! Which of the fields that we look at a head has, found in one pass: most have few of them, and a look-up costs more
//! than a glance at a name.

use std::ops::BitOr;

use http::HeaderMap;

use crate::balancer::affinity::word;

/// How fields begin that are said between us and backends: no client may say them, nor any proxy.
const OURS: &str = "x-homing-";

/// How fields begin that we write, or believe from proxies; neither they nor we spell them with `_`.
const WRITTEN: [&str; 4] = ["x-forwarded-", "x-request-", IDENTITY[0], IDENTITY[1]];

/// How fields begin that say who a client is by its certificate (RFC 9440, and our own): only a trusted proxy may.
const IDENTITY: [&str; 2] = ["client-cert", "x-client-cert-"];

/// What only a trusted proxy may say.
pub(super) const TRUSTED_ONLY: [&str; 3] = ["x-forwarded-host", "x-forwarded-server", "forwarded"];

/// Fields that concern one connection, besides those that `Connection` names (RFC 9110 §7.6.1). What an app
/// says to us is one of them.
pub(super) const HOP_BY_HOP: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "http2-settings",
    word::NAME,
];

/// Fields for one kind of cache that come before `Cache-Control` there (RFC 9213, and its elder).
pub(super) const TARGETED: [&str; 3] =
    ["cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control"];

/// A set of fields. What is not in it is not in the head; what is in it may have been taken out since.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Said(u16);

impl Said {
    pub(super) const CONNECTION: Self = Self(1);
    pub(super) const CONTENT_LENGTH: Self = Self(1 << 1);
    pub(super) const CONTENT_TYPE: Self = Self(1 << 2);
    pub(super) const EXPECT: Self = Self(1 << 3);
    /// One of [`HOP_BY_HOP`].
    pub(super) const HOP_BY_HOP: Self = Self(1 << 4);
    pub(super) const HOST: Self = Self(1 << 5);
    /// What is not for everybody to say: fields of ours, of trusted proxies, and what is spelled like one.
    pub(super) const RESERVED: Self = Self(1 << 6);
    pub(super) const TRACE_PARENT: Self = Self(1 << 7);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 8);
    pub(super) const UPGRADE: Self = Self(1 << 9);
    pub(super) const X_FORWARDED_FOR: Self = Self(1 << 10);
    pub(super) const X_FORWARDED_PORT: Self = Self(1 << 11);
    pub(super) const X_FORWARDED_PROTO: Self = Self(1 << 12);
    pub(super) const X_REQUEST_ID: Self = Self(1 << 13);
    pub(super) const X_REQUEST_START: Self = Self(1 << 14);
    /// What tells caches whether they may keep a response: `Cache-Control`, and [`TARGETED`].
    pub(super) const CACHING: Self = Self(1 << 15);

    /// Those of a head.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |so_far, name| so_far | Self::by(name.as_str()))
    }

    /// Whether one of these may be there.
    pub(super) fn has(self, fields: Self) -> bool {
        self.0 & fields.0 != 0
    }

    /// By its first letter, since most fields have none of these.
    fn by(name: &str) -> Self {
        match name.as_bytes().first() {
            Some(b'c') => match name {
                "cache-control" => Self::CACHING,
                "connection" => Self::CONNECTION,
                "content-length" => Self::CONTENT_LENGTH,
                "content-type" => Self::CONTENT_TYPE,
                _ if TARGETED.contains(&name) => Self::CACHING,
                _ => Self::reserved(name),
            },
            Some(b's') if TARGETED.contains(&name) => Self::CACHING,
            Some(b'f') => Self::reserved(name),
            Some(b'h' | b'k' | b'p') => match name {
                "host" => Self::HOST,
                _ => Self::hop_by_hop(name),
            },
            Some(b'e' | b't' | b'u') => match name {
                "expect" => Self::EXPECT,
                "traceparent" => Self::TRACE_PARENT,
                "transfer-encoding" => Self::TRANSFER_ENCODING,
                "upgrade" => Self::UPGRADE,
                _ => Self::hop_by_hop(name),
            },
            Some(b'x') => match name {
                "x-forwarded-for" => Self::X_FORWARDED_FOR,
                "x-forwarded-port" => Self::X_FORWARDED_PORT,
                "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
                "x-request-id" => Self::X_REQUEST_ID,
                "x-request-start" => Self::X_REQUEST_START,
                // Said by an app, it is for us; said by a client, it is taken out.
                word::NAME => Self::HOP_BY_HOP | Self::RESERVED,
                _ => Self::reserved(name),
            },
            Some(_) | None => Self::default(),
        }
    }

    fn hop_by_hop(name: &str) -> Self {
        if HOP_BY_HOP.contains(&name) { Self::HOP_BY_HOP } else { Self::default() }
    }

    fn reserved(name: &str) -> Self {
        let is_reserved = is_ours(name) || TRUSTED_ONLY.contains(&name) || tells_identity(name);
        if is_reserved { Self::RESERVED } else { Self::default() }
    }
}

impl BitOr for Said {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether a field is one that only we write. Many gateways make the same variable of `-`, `_` and whatever is no
/// letter.
pub(super) fn is_ours(name: &str) -> bool {
    let is_odd = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'-';
    begins_like(name, OURS)
        || (name.bytes().any(is_odd) && WRITTEN.iter().any(|own| begins_like(name, own)))
}

/// Whether a field says who a client is by its certificate.
pub(super) fn tells_identity(name: &str) -> bool {
    IDENTITY.iter().any(|prefix| begins_like(name, prefix))
}

fn begins_like(name: &str, prefix: &str) -> bool {
    let start = name.as_bytes().get(..prefix.len());
    let same =
        |(own, byte): (&u8, &u8)| own == byte || (*own == b'-' && !byte.is_ascii_alphanumeric());
    start.is_some_and(|start| prefix.as_bytes().iter().zip(start).all(same))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    fn said(names: &[&'static str]) -> Said {
        let field =
            |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("1"));
        Said::of(&names.iter().map(field).collect())
    }

    #[test]
    fn a_head_says_what_stands_in_it() {
        let both = said(&["host", "accept", "x-request-id"]);
        assert!(both.has(Said::HOST) && both.has(Said::X_REQUEST_ID));
        assert!(both.has(Said::EXPECT | Said::HOST));
        assert!(!both.has(Said::EXPECT) && !both.has(Said::RESERVED));
        assert_eq!(said(&["accept", "cookie", "x-requested-with", "server"]), Said::default());
        for name in TARGETED.into_iter().chain(["cache-control"]) {
            assert_eq!(said(&[name]), Said::CACHING, "{name}");
        }
        for name in HOP_BY_HOP {
            assert!(said(&[name]).has(Said::HOP_BY_HOP), "{name}");
        }
    }

    #[test]
    fn fields_of_ours_are_known_however_they_are_spelled() {
        let spoofs = [
            "x_forwarded_for",
            "x-forwarded_proto",
            "x_request_id",
            "x.forwarded.for",
            "x-request~id",
            "client_cert",
            "x-client_cert-subject",
        ];
        let ours = ["x-homing-moved-from", "x_homing_moved_from", "x-homing_affinity"];
        for name in ours.into_iter().chain([word::NAME, "x.homing.affinity"]).chain(spoofs) {
            assert!(is_ours(name), "{name}");
            assert!(said(&[name]).has(Said::RESERVED), "{name}");
        }
        for name in
            ["x-homin", "x-forwarded-for", "homing-affinity", "x_forward", "x-requested-with", ""]
        {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn what_only_a_trusted_proxy_says_is_not_for_everybody() {
        for name in TRUSTED_ONLY.into_iter().chain([
            "client-cert",
            "client-cert-chain",
            "x-client-cert-san",
        ]) {
            assert_eq!(said(&[name]), Said::RESERVED, "{name}");
        }
    }
}
