//! Faults under load: what goes wrong at one backend, with some clients, or with the machine hurts nobody else.
//!
//! `cargo test --test faults` is the short form, for CI. The whole of it takes some minutes:
//! `HOMING_FAULTS=full cargo test --test faults -- --nocapture`. The figures are printed at the end of each part.

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

#[expect(dead_code, reason = "shared with tests/change, which uses all of it")]
#[path = "../change/wire.rs"]
mod wire;

mod backends;
mod crowd;
mod load;
mod pressure;
mod process;
mod site;

use self::shared::{tell, turn};

/// Whether the whole of it is asked for.
fn full() -> bool {
    shared::is_full("HOMING_FAULTS")
}
