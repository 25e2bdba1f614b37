//! How often which duration was seen: buckets that grow with the value, so that none is off by more than 1 %.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets for each doubling, as a power of two: 128, each at most 1/128 of its value wide.
const PRECISION_BITS: u32 = 7;

/// Longest duration that has a bucket of its own, in nanoseconds: 2^36, more than a minute. Longer ones share the last.
const GREATEST_NS: u64 = (1 << 36) - 1;

/// Durations, counted. The greatest is kept to the nanosecond.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    greatest_ns: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let value_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(value_ns.min(GREATEST_NS));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.greatest_ns = self.greatest_ns.max(value_ns);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.greatest_ns = self.greatest_ns.max(other.greatest_ns);
    }

    /// How many durations were recorded.
    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.greatest_ns)
    }

    /// The duration that `share` (0 to 1) of all did not exceed, rounded up to the end of its bucket; zero without any.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(end_of(bucket).min(self.greatest_ns));
            }
        }
        Duration::ZERO
    }
}

/// Values below 128 have a bucket each; above, the seven bits behind the leading one choose.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    ((u64::from(shift) << PRECISION_BITS) + (value >> shift)) as usize
}

/// The greatest value of a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> PRECISION_BITS).saturating_sub(1);
    let leading = bucket - (shift << PRECISION_BITS);
    ((leading + 1) << shift) - 1
}
