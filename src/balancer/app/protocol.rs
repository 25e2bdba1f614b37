//! Which HTTP the backends of an app speak.

use std::time::Duration;

/// Which HTTP the backends of an app speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS, and nothing else.
    H2(H2Limits),
    /// HTTP/2 in the clear, with prior knowledge (RFC 9113 §3.3).
    H2c(H2Limits),
    /// What the backend prefers by ALPN: HTTP/2 or HTTP/1.1.
    Auto(H2Limits),
}

impl BackendProtocol {
    /// The limits of HTTP/2, where that may be spoken.
    pub fn h2(self) -> Option<H2Limits> {
        match self {
            Self::Http1 => None,
            Self::H2(limits) | Self::H2c(limits) | Self::Auto(limits) => Some(limits),
        }
    }

    /// Whether a connection can become another protocol (RFC 9110 §7.8): in HTTP/2 none can.
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Http1 | Self::Auto(_))
    }

    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::H2(_) => "h2",
            Self::H2c(_) => "h2c",
            Self::Auto(_) => "auto",
        }
    }
}

/// How HTTP/2 connections to backends are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct H2Limits {
    /// Requests at once on one connection; where there are more, there are more connections.
    pub streams: u32,
    /// Bytes of one response that may be on their way, unread by its client. A connection has room for that many of
    /// each of its streams, so that a client that does not read stops its own response only.
    pub window_bytes: u32,
    /// How often a connection is asked whether it still is one; `None`: never.
    pub ping: Option<Duration>,
}

/// Largest window of a connection, in bytes (RFC 9113 §6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

impl H2Limits {
    /// Unless the file says otherwise.
    pub const DEFAULT: Self = Self { streams: 100, window_bytes: 256 << 10, ping: None };

    /// Bytes that may be on their way on a connection with all its streams.
    pub fn connection_window_bytes(self) -> u32 {
        self.window_bytes.saturating_mul(self.streams).min(WINDOW_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_room_for_all_its_streams_as_far_as_the_protocol_has() {
        let room = |streams, window_bytes| {
            H2Limits { streams, window_bytes, ping: None }.connection_window_bytes()
        };
        assert_eq!(room(1, 65_536), 65_536);
        assert_eq!(room(100, 262_144), 26_214_400);
        assert_eq!(room(1000, 16 << 20), 2_147_483_647);
    }
}
