//! Planned changes under load lose nothing: reloads, restarts, a killed worker, a drain.
//!
//! `cargo test --test change` is the short form, for CI. The whole of it takes some minutes:
//! `HOMING_CHANGE=full cargo test --test change -- --nocapture`. The figures are printed at the end of each
//! part. Socket.IO clients join when `node` and `tests/apps/node_modules` are there.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;

#[path = "../shared/mod.rs"]
mod shared;

mod crash;
mod drain;
mod figures;
mod load;
mod reload;
mod restart;
mod secure;
mod site;
mod socketio;
mod spoil;
mod streams;
mod wire;

use self::shared::{Dice, tell, turn};

/// Whether the whole of it is asked for.
fn full() -> bool {
    shared::is_full("HOMING_CHANGE")
}
