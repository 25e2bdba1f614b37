//! The cases of the tests of the Heroku router, by name, on real sockets: a client and a backend that are both
//! under the test's control, byte by byte, and the real binary between them.
//!
//! docs/heroku-router.md lists each case and where Homing differs on purpose; `page` holds the two together.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;

mod wire;

mod backend_close;
mod backend_keepalive;
mod body_less;
mod bytepipe;
mod chunked;
mod client;
mod continue_;
mod headers;
mod http_1_0;
mod large_body;
mod lookups;
mod page;
mod proxy;
mod req_log;
mod request;
mod vegur_chunked;
mod vegur_unchunked;
