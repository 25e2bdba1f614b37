//! From what became of each request to what became of the sessions: pure, so that it can be checked.
//!
//! A client's *home* is the backend that has its session: the one of its first answer. An answer of another one while
//! the home is alive is *astray*, and the session of that client is *lost*: the application there does not know it. A
//! client whose home was dead at any moment of the request had to go elsewhere: it is *displaced*, and where it was
//! sent is its home from then on, since its session is made anew there.

use std::{collections::BTreeMap, time::Duration};

use crate::load::{Outcome, Sample, Trouble};

/// A generator that is later than this with more than one request in a hundred, while nothing changes, says nothing
/// about latency.
const LATE: Duration = Duration::from_millis(5);

/// A span in which the backend with this port was dead, from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) backend: u16,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// The phases of a run: what comes before `warm` gives clients their homes and is not counted otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    pub(crate) warm: Duration,
    pub(crate) changes: Duration,
}

/// Latencies of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) max: Duration,
}

/// What became of the sessions, in clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// Those that had a home when the counting began.
    pub(crate) clients: u64,
    /// Those with at least one answer astray.
    pub(crate) lost: u64,
    /// Those of them whose last answer was astray.
    pub(crate) for_good: u64,
    /// Those that were sent elsewhere while their home was dead.
    pub(crate) displaced: u64,
    /// Those whose last answer came from another backend than their first, for whatever reason.
    pub(crate) elsewhere: u64,
}

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// After the warm-up, failed ones included.
    pub(crate) requests: u64,
    pub(crate) failed: BTreeMap<Trouble, u64>,
    /// Requests that were sent again, as browsers do with a GET, since a kept connection ended as they were under way.
    pub(crate) repeated: u64,
    /// Answers from another backend than the client's home, which was alive.
    pub(crate) astray: u64,
    pub(crate) sessions: Sessions,
    pub(crate) before: Latency,
    pub(crate) during: Latency,
    /// How late the generator was before anything changed. Afterwards it may have to wait for the edge.
    pub(crate) lag: Latency,
}

impl Figures {
    pub(crate) fn failed_in_all(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn generator_was_late(&self) -> bool {
        self.lag.p99 > LATE
    }
}

/// One client, as its answers come in.
#[derive(Default)]
struct Client {
    first: Option<u16>,
    home: Option<u16>,
    latest: Option<u16>,
    is_lost: bool,
    is_displaced: bool,
}

impl Client {
    /// Takes note of an answer, and says whether it was astray.
    fn hears(&mut self, backend: u16, home_was_dead: bool) -> bool {
        self.first.get_or_insert(backend);
        self.latest = Some(backend);
        if *self.home.get_or_insert(backend) == backend {
            return false;
        }
        if home_was_dead {
            self.home = Some(backend);
            self.is_displaced = true;
            return false;
        }
        self.is_lost = true;
        true
    }
}

/// Judges a run by all its requests, each client's in the order in which they ended.
pub(crate) fn judge(samples: &[Sample], deaths: &[Death], phases: Phases) -> Figures {
    let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
    let mut figures = Figures::default();
    let (mut before, mut during, mut lags) = (vec![], vec![], vec![]);
    for sample in samples {
        let client = clients.entry(sample.client).or_default();
        let is_counted = sample.due >= phases.warm;
        let is_before = sample.due < phases.changes;
        figures.requests += u64::from(is_counted);
        figures.repeated += u64::from(is_counted && sample.is_repeated);
        if is_counted && is_before {
            lags.push(sample.sent.saturating_sub(sample.due));
        }
        match sample.outcome {
            Outcome::Answered(backend) => {
                let dead = client.home.is_some_and(|home| was_dead(home, sample, deaths));
                figures.astray += u64::from(client.hears(backend, dead));
            }
            Outcome::Failed(trouble) if is_counted => {
                *figures.failed.entry(trouble).or_default() += 1
            }
            Outcome::Failed(_) => {}
        }
        let has_latency =
            matches!(sample.outcome, Outcome::Answered(_) | Outcome::Failed(Trouble::TimedOut));
        if is_counted && has_latency {
            let phase = if is_before { &mut before } else { &mut during };
            phase.push(sample.done.saturating_sub(sample.due));
        }
    }
    figures.sessions = sessions(clients.values());
    figures.before = latency(before);
    figures.during = latency(during);
    figures.lag = latency(lags);
    figures
}

/// Whether a backend was dead at any moment between the beginning and the end of a request.
fn was_dead(backend: u16, sample: &Sample, deaths: &[Death]) -> bool {
    deaths
        .iter()
        .any(|death| death.backend == backend && sample.sent < death.to && sample.done > death.from)
}

fn sessions<'c>(clients: impl Iterator<Item = &'c Client>) -> Sessions {
    let mut sum = Sessions::default();
    for client in clients.filter(|it| it.home.is_some()) {
        sum.clients += 1;
        sum.lost += u64::from(client.is_lost);
        sum.for_good += u64::from(client.is_lost && client.latest != client.home);
        sum.displaced += u64::from(client.is_displaced);
        sum.elsewhere += u64::from(client.latest != client.first);
    }
    sum
}

/// The percentiles of some durations: the least value that so many in a hundred do not exceed.
pub(crate) fn latency(mut values: Vec<Duration>) -> Latency {
    values.sort_unstable();
    let at = |share: f64| {
        let rank = (values.len() as f64 * share).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    };
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}
