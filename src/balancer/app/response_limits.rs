//! How large the head of a response may be: plain values, read where responses are checked.

use crate::wire::head::{BYTES_MAX, FIELDS_MAX};

/// How large the head of a response may be. A larger one is no response: the client gets an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseLimits {
    /// The status line, in bytes, without its end.
    pub status_line_bytes: usize,
    /// One field: its name, its value and what separates them, in bytes.
    pub field_bytes: usize,
    /// One field `Set-Cookie`, in bytes, counted alike. Browsers drop cookies of more than 4096.
    pub cookie_bytes: usize,
    /// The whole head, in bytes.
    pub head_bytes: usize,
    /// How many fields there may be.
    pub fields: usize,
}

impl Default for ResponseLimits {
    /// Those of the Heroku router, within what Pingora takes.
    fn default() -> Self {
        Self {
            status_line_bytes: 8192,
            field_bytes: 524_288,
            cookie_bytes: 8192,
            head_bytes: BYTES_MAX,
            fields: FIELDS_MAX,
        }
    }
}
