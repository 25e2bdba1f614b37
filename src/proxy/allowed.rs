//! What every connection is allowed: numbers that a reload changes and every connection reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::frames::FrameFaults;
use super::gate::Gate;
use super::pace::millis;
use crate::wire::head::HeadLimits;

/// What every connection is allowed, and the time by which deadlines are set.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Milliseconds on the monotonic clock, as of the last look: asking the clock costs more than
    /// all else that a deadline costs, and they are late by that much anyway.
    pub(super) now: AtomicU64,
    /// Milliseconds, as the others.
    head_timeout: AtomicU64,
    keepalive_timeout: AtomicU64,
    head_bytes: AtomicUsize,
    head_fields: AtomicUsize,
    head_line: AtomicUsize,
    /// Whether every stream has to end, since the process does.
    pub(super) streams_end: AtomicBool,
    /// Requests on one connection; `u64::MAX`: any number.
    pub(super) requests: AtomicU64,
    /// Streams at once on a connection of HTTP/2.
    pub(super) streams: AtomicU32,
    pub(super) gate: Arc<Gate>,
    /// How many were ended for their frames.
    pub(super) frame_faults: FrameFaults,
}

impl Limits {
    /// Changes what a client may take.
    pub(super) fn set(
        &self,
        head: HeadLimits,
        head_timeout: Duration,
        keepalive_timeout: Duration,
    ) {
        self.head_bytes.store(head.bytes, Ordering::Relaxed);
        self.head_fields.store(head.fields, Ordering::Relaxed);
        self.head_line.store(head.line, Ordering::Relaxed);
        self.head_timeout.store(millis(head_timeout), Ordering::Relaxed);
        self.keepalive_timeout.store(millis(keepalive_timeout), Ordering::Relaxed);
    }

    /// The time by which deadlines are set.
    pub(super) fn time(&self) -> Duration {
        Duration::from_millis(self.now.load(Ordering::Relaxed))
    }

    pub(super) fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_timeout.load(Ordering::Relaxed))
    }

    pub(super) fn head(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.head_bytes.load(Ordering::Relaxed),
            fields: self.head_fields.load(Ordering::Relaxed),
            line: self.head_line.load(Ordering::Relaxed),
        }
    }

    pub(super) fn keepalive_timeout(&self) -> Duration {
        Duration::from_millis(self.keepalive_timeout.load(Ordering::Relaxed))
    }
}
