//! What the operator sees: metrics to count, an access log to read, a log of what changed.

pub mod access_log;
pub mod logging;
pub mod metrics;
pub mod record;
pub mod spans;
pub mod trace;
