//! No request is split, joined or framed otherwise by Homing than by who strictly reads what the client sent; no
//! response by Homing otherwise than by who strictly reads what the backend sent.
//!
//! Streams are made of right ones, by a table and by chance, and go over raw sockets to a backend that records
//! every byte; so do requests of HTTP/2, in frames by chance. A reference that shares no code with Homing says what
//! has to come of them. The seed is printed; `HOMING_SMUGGLING_SEED` repeats a run.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;

#[expect(dead_code, reason = "shared with tests/change, which uses all of it")]
#[path = "../shared/mod.rs"]
mod shared;

mod answers;
mod cases;
mod exchange;
mod grammar;
mod http2;
mod recorder;
mod request;
mod requests;
mod response;
mod responses;
mod shapes;
mod spoil;

use self::shared::{Dice, tell};

/// Where chance begins.
fn seed() -> u64 {
    let given = std::env::var("HOMING_SMUGGLING_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    tell(&format!("HOMING_SMUGGLING_SEED={seed}"));
    seed
}
