//! The pure core: what Homing decides, without touching the world.
//!
//! Pure means: no Pingora, no Tokio, no clock, no file, no global random source. Time and chance are
//! arguments. `tests/tidy.rs` holds this. Read in this order:
//!
//! 1. [`name`]: the words that users write, as types.
//! 2. [`affinity`]: the cookie, the token it carries, the keyring that seals it.
//! 3. [`app`]: an app, its backends, what they admit, how one is drawn.
//! 4. [`assign`]: the heart; one request, one decision.
//! 5. [`route`]: from a host and a path to an app.
//! 6. [`rebalance`]: evening out after a scale-up.
//! 7. [`state`]: events in, snapshots out; `entry`, one app of it; `places`, where all of them stand.
//! 8. [`carry`]: what one process hands to the next.
//! 9. [`change`]: what a new configuration changes, told before it is taken.
//! 10. [`explain`]: what would happen to a request now, step by step.
//! 11. [`failure`]: all that can go wrong with a request, and what is said about it.
//!
//! [`rendezvous`] is the hash that edges agree by.

pub mod administrative;
pub mod affinity;
pub mod app;
pub mod assign;
pub mod carry;
pub mod change;
mod due;
mod eject;
mod entry;
pub mod explain;
pub mod failure;
pub mod misdirected;
pub mod name;
mod places;
pub mod rebalance;
pub mod rendezvous;
pub mod route;
pub mod shared;
pub mod state;
#[cfg(test)]
mod testing;
pub mod views;
