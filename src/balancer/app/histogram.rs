//! Counts by size: the buckets of a histogram, which telemetry turns into a metric.

use std::time::Duration;

use super::live::Counter;

/// Upper bounds of the buckets of request durations, in seconds.
pub const DURATION_BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of the buckets of the ages of pins, in seconds: from a minute to thirty days.
pub const AGE_BOUNDS: [f64; 9] =
    [60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 1_209_600.0, 2_592_000.0];

/// How long requests took; its sum is in microseconds.
pub type Durations = Histogram<{ DURATION_BOUNDS.len() + 1 }>;

/// How old the pins of requests were; its sum is in seconds.
pub type Ages = Histogram<{ AGE_BOUNDS.len() + 1 }>;

/// Counts in buckets, the last of which is beyond all bounds.
#[derive(Debug)]
pub struct Histogram<const BUCKETS: usize> {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl Durations {
    /// Counts one request.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.count(&DURATION_BOUNDS, duration.as_secs_f64(), micros);
    }
}

impl Ages {
    /// Counts the pin of one request, made so many seconds ago.
    pub fn observe(&self, age: u32) {
        self.count(&AGE_BOUNDS, age.into(), age.into());
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    fn count(&self, bounds: &[f64], value: f64, amount: u64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        self.add_bucket(bucket, 1);
        self.sum.add(amount);
    }

    /// Adds to one bucket; one that does not exist is skipped.
    pub(super) fn add_bucket(&self, bucket: usize, count: u64) {
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(count);
        }
    }

    /// All values together, in the unit of the histogram.
    pub fn sum(&self) -> &Counter {
        &self.sum
    }

    /// The count of each bucket, not cumulated.
    pub fn read(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|index| self.buckets[index].read())
    }
}
