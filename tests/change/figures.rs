//! What the load saw.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::wire::{Failure, TROUBLES, Trouble};

/// What all clients of a load count together.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Requests that were answered with 200.
    pub(crate) requests: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Kept connections that were closed while they were idle, and nothing was lost.
    pub(crate) idle_closed: AtomicU64,
    /// Moves of clients whose backend is to be left.
    pub(crate) led_away: AtomicU64,
    /// Requests over TLS or HTTP/2 among those that were answered, and how often one had to be asked again since its
    /// connection took no more.
    pub(crate) encrypted: AtomicU64,
    pub(crate) asked_again: AtomicU64,
    /// WebSockets that were opened.
    pub(crate) upgrades: AtomicU64,
    /// Streams that were opened, those of Socket.IO included.
    pub(crate) streams: AtomicU64,
    /// Messages that came back on them.
    pub(crate) echoes: AtomicU64,
    /// The longest that a request took, in microseconds.
    worst: AtomicU64,
    troubles: [Bucket; TROUBLES.len()],
    cuts: Mutex<Vec<Cut>>,
}

#[derive(Debug, Default)]
struct Bucket {
    count: AtomicU64,
    first: Mutex<Option<String>>,
}

/// A stream that was ended by the other side. Times are Unix milliseconds.
#[derive(Clone)]
pub(crate) struct Cut {
    /// Whose it was.
    pub(crate) client: String,
    pub(crate) home: String,
    /// When it was begun, and when the end was seen.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) how: String,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, home, begun, ended, how } = self;
        write!(f, "{client} on {home}, begun at {begun}, ended at {ended}: {how}")
    }
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

impl Figures {
    pub(crate) fn fail(&self, trouble: Trouble, text: impl FnOnce() -> String) {
        let bucket = &self.troubles[trouble as usize];
        bucket.count.fetch_add(1, Ordering::SeqCst);
        bucket.first.lock().unwrap().get_or_insert_with(text);
    }

    pub(crate) fn failed(&self, failure: &Failure, who: &str) {
        self.fail(failure.trouble, || format!("{who}: {}", failure.text));
    }

    pub(crate) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.worst.fetch_max(micros, Ordering::SeqCst);
    }

    /// The longest that a request took since this was asked last.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.swap(0, Ordering::SeqCst))
    }

    pub(crate) fn count(&self, trouble: Trouble) -> u64 {
        self.troubles[trouble as usize].count.load(Ordering::SeqCst)
    }

    pub(crate) fn cut(&self, cut: Cut) {
        self.cuts.lock().unwrap().push(cut);
    }

    pub(crate) fn cuts(&self) -> Vec<Cut> {
        self.cuts.lock().unwrap().clone()
    }

    /// How often each of these went wrong, with the first example.
    pub(crate) fn troubles(&self) -> BTreeMap<String, (u64, String)> {
        let seen = TROUBLES.iter().zip(&self.troubles).filter_map(|(trouble, bucket)| {
            let count = bucket.count.load(Ordering::SeqCst);
            let first = bucket.first.lock().unwrap().clone().unwrap_or_default();
            (count > 0).then(|| (format!("{trouble:?}"), (count, first)))
        });
        seen.collect()
    }

    /// Stops the test if a client lost anything so far.
    #[track_caller]
    pub(crate) fn lost_nothing(&self, when: &str) {
        let mut troubles = self.troubles();
        // Told in the figures; only clients that pause can meet it.
        troubles.remove("Race");
        assert!(troubles.is_empty(), "{when}: {troubles:?}");
    }

    /// The figures, for people.
    pub(crate) fn line(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let failed: u64 = [Trouble::Ended, Trouble::Late, Trouble::Status, Trouble::Strange]
            .map(|trouble| self.count(trouble))
            .iter()
            .sum();
        let mut text = format!(
            "{} requests ({} over TLS or HTTP/2, of which {} were asked again) on {} connections: {} refused, {} reset, {failed} failed, {} moved",
            read(&self.requests),
            read(&self.encrypted),
            read(&self.asked_again),
            read(&self.connections),
            self.count(Trouble::Refused),
            self.count(Trouble::Reset),
            self.count(Trouble::Moved),
        );
        let (streams, cuts) = (read(&self.streams), self.cuts().len() as u64);
        let _infallible = write!(
            text,
            ", {} keep-alive races, {} closed while idle; {streams} streams with {} echoes: {} kept, \
             {cuts} ended by Homing",
            self.count(Trouble::Race),
            read(&self.idle_closed),
            read(&self.echoes),
            streams.saturating_sub(cuts),
        );
        text
    }
}
