//! HTTP/1 as it may come over the wire: what a client sends is read here byte by byte, more strictly than by
//! Pingora, before Pingora sees it. Pure: bytes in, a verdict out.
//!
//! Whatever two parsers could read in two ways is refused, so that a backend never sees another request than the
//! one that Homing decided about (RFC 9112 §11.2). `docs/validation.md` is the table of all verdicts.

pub mod chunk;
pub mod fault;
pub mod field;
pub mod frame;
pub mod head;
pub mod host;
pub mod known;
pub mod proxied;
