//! What happened since the last time somebody asked.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{histogram::Histogram, sample::Sample};

/// Counters and latencies of one span of time.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) elapsed: Duration,
    /// From when a request was due, or was sent if the load is greedy, to the last byte of its good answer.
    pub(crate) latency: Histogram,
    /// Bytes of bodies received.
    pub(crate) body_bytes: u64,
    /// Answers from another backend than the one before, for clients that showed a cookie: sessions lost.
    pub(crate) moved: u64,
    pub(crate) failures: Failures,
    /// Requests that were sent again because a kept connection closed as they were under way, as browsers do.
    pub(crate) repeated: u64,
    /// Connections opened, and of those how many resumed an earlier TLS session.
    pub(crate) opened: u64,
    pub(crate) resumed: u64,
    /// Each request that ended, in this order, when the load tells of each; else none.
    pub(crate) samples: Vec<Sample>,
    /// When the load started, since the epoch of Unix: the times of the samples count from there.
    pub(crate) started: Duration,
    /// Requests that were due at the end of the span and had no connection yet.
    pub(crate) waiting: u64,
    /// Connections that were open at the end of the span, and had got their first answer.
    pub(crate) established: u64,
}

/// Requests without a good answer, by the way it failed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failures {
    /// Answers that were not 2xx.
    pub(crate) status: u64,
    /// Connections that could not be opened.
    pub(crate) connect: u64,
    /// Connections that ended before the answer did.
    pub(crate) broken: u64,
    /// Answers that could not be read: no HTTP/1.1 with a length, or more than was asked for.
    pub(crate) unreadable: u64,
    pub(crate) timeout: u64,
}

impl Interval {
    /// Good answers.
    pub(crate) fn answers(&self) -> u64 {
        self.latency.len()
    }

    /// Adds the span that followed this one.
    pub(crate) fn merge(&mut self, next: &Self) {
        self.elapsed += next.elapsed;
        self.latency.merge(&next.latency);
        self.body_bytes += next.body_bytes;
        self.moved += next.moved;
        self.failures.merge(next.failures);
        self.repeated += next.repeated;
        self.opened += next.opened;
        self.resumed += next.resumed;
        self.samples.extend(&next.samples);
        self.started = next.started;
        self.waiting = next.waiting;
        self.established = next.established;
    }
}

impl Failures {
    pub(crate) fn total(self) -> u64 {
        let Self { status, connect, broken, unreadable, timeout } = self;
        status + connect + broken + unreadable + timeout
    }

    fn merge(&mut self, other: Self) {
        self.status += other.status;
        self.connect += other.connect;
        self.broken += other.broken;
        self.unreadable += other.unreadable;
        self.timeout += other.timeout;
    }
}

impl Display for Failures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, connect, broken, unreadable, timeout } = self;
        let kinds = [
            (status, "not 2xx"),
            (connect, "not connected"),
            (broken, "broken off"),
            (unreadable, "unreadable"),
            (timeout, "timed out"),
        ];
        let told = kinds.iter().filter(|(count, _)| **count > 0);
        let told: Vec<String> = told.map(|(count, kind)| format!("{count} {kind}")).collect();
        out.write_str(&told.join(", "))
    }
}
