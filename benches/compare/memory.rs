//! What connections that wait cost a proxy in resident memory.

use std::{
    fmt::{self, Display},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{failure::Failure, load::Load, proxy::Proxy, workload::IDLE_CONNECTIONS};

/// How long all connections may take to get their first answer.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// How long a proxy may tidy up before its memory is read.
const REST: Duration = Duration::from_secs(1);

const POLL: Duration = Duration::from_millis(200);

/// The figures of one measurement.
pub(crate) struct Memory {
    /// For each idle connection, in bytes.
    pub(crate) each_bytes: f64,
    /// Of the proxy before there were any, and with all of them.
    pub(crate) before_bytes: u64,
    pub(crate) with_bytes: u64,
    /// Processor time of opening one connection, with one answer, in microseconds.
    pub(crate) opening_us: f64,
    /// Why the figures are worth nothing, if so.
    pub(crate) void: Option<String>,
}

impl Memory {
    /// Measures a proxy that has just started, and a load of [`IDLE_CONNECTIONS`] that is started by `open`.
    pub(crate) fn measure(
        proxy: &mut Proxy,
        open: impl FnOnce() -> Result<Load, Failure>,
    ) -> Result<Self, Failure> {
        let before_bytes = proxy.process.resident_bytes();
        let before_time = proxy.process.processor_time();
        let mut load = open()?;
        let deadline = Instant::now() + OPEN_MAX;
        let mut failures = String::new();
        let mut established = 0;
        while established < IDLE_CONNECTIONS as u64
            && failures.is_empty()
            && Instant::now() < deadline
        {
            sleep(POLL);
            let interval = load.interval()?;
            established = interval.established;
            failures = interval.failures.to_string();
        }
        let opening = proxy.process.processor_time().since(before_time);
        sleep(REST);
        established = established.min(load.interval()?.established);
        proxy.process.check_alive()?;
        let with_bytes = proxy.process.resident_bytes();
        let count = IDLE_CONNECTIONS as f64;
        let is_short = established < IDLE_CONNECTIONS as u64;
        Ok(Self {
            each_bytes: with_bytes.saturating_sub(before_bytes) as f64 / count,
            before_bytes,
            with_bytes,
            opening_us: opening.total().as_secs_f64() * 1e6 / count,
            void: is_short.then(|| format!("only {established} connections; {failures}")),
        })
    }
}

impl Display for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.1} KiB a connection", self.each_bytes / 1024.0)?;
        match &self.void {
            Some(reason) => write!(out, "; void: {reason}"),
            None => Ok(()),
        }
    }
}
