//! What was counted so far, as plain data: a process hands it to its successor, so that the counters
//! of Prometheus go on and do not fall back to zero.
//!
//! Gauges are not in it: what a process holds is its own. A series that this version does not know
//! comes from another version, and is skipped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::histogram::{AGE_BOUNDS, DURATION_BOUNDS};
use super::live::{AppLive, BackendLive, Connect};
use super::members::Admission;
use super::outliers::Why;
use crate::balancer::assign::{Cause, Outcome};
use crate::balancer::state::Snapshot;

/// One counter of an app or of a backend. Its text, such as `affinity:moved:removed`, is what is
/// handed on.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Series {
    /// Of an app: requests of clients that were known by the foreign cookie of this name.
    Adopted(Box<str>),
    /// Of an app: requests by what became of their pin, and why.
    Affinity(Outcome, Option<Cause>),
    /// Of a backend: requests that were assigned to it.
    Assigned,
    /// Of a backend: attempts to connect that ended this way.
    Connects(Connect),
    /// Of an app: requests that took as long as this bucket says, by its place.
    Duration(u8),
    /// Of an app: how long all requests took together, in microseconds.
    DurationSumMicros,
    /// Of an app: requests whose pin was as old as this bucket says, by its place.
    PinAge(u8),
    /// Of an app: how old the pins of all requests were together, in seconds.
    PinAgeSumSeconds,
    /// Of a backend: requests that followed their pin.
    PinsFollowed,
    /// Of a backend: pins that were made.
    PinsMade,
    /// Of a backend: ejections for this reason.
    Ejections(Why),
    /// Of a backend: probes that failed.
    ProbesFailed,
    /// Of a backend: probes that passed.
    ProbesPassed,
    /// Of an app: bytes of request bodies.
    RequestBytes,
    /// Of an app: requests by status and by the label of what failed; empty: nothing did.
    Requests(u16, Cow<'static, str>),
    /// Of an app: bytes of response bodies.
    ResponseBytes,
    /// Of an app: retries that the budget allowed.
    RetriesAllowed,
    /// Of an app: retries that the budget did not allow.
    RetriesDenied,
    /// Of a backend: how often it was an outlier and stayed.
    Spared,
    /// Of a backend: changes of admission, by [`Admission::label_index`].
    Transitions(u8),
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopted(cookie) => write!(f, "adopted:{cookie}"),
            Self::Affinity(outcome, cause) => {
                write!(f, "affinity:{}:{}", outcome.as_str(), cause.map_or("", Cause::as_str))
            }
            Self::Assigned => f.write_str("assigned"),
            Self::Connects(connect) => write!(f, "connects:{}", connect.as_str()),
            // By its bound: another version may have other buckets.
            Self::Duration(bucket) => write!(f, "duration:{}", bound(&DURATION_BOUNDS, *bucket)),
            Self::DurationSumMicros => f.write_str("duration_micros"),
            Self::Ejections(why) => write!(f, "ejections:{}", why.as_str()),
            Self::PinAge(bucket) => write!(f, "pin_age:{}", bound(&AGE_BOUNDS, *bucket)),
            Self::PinAgeSumSeconds => f.write_str("pin_age_seconds"),
            Self::PinsFollowed => f.write_str("pins:followed"),
            Self::PinsMade => f.write_str("pins:made"),
            Self::ProbesFailed => f.write_str("probes:failed"),
            Self::ProbesPassed => f.write_str("probes:passed"),
            Self::RequestBytes => f.write_str("bytes:request"),
            Self::Requests(status, failure) => write!(f, "requests:{status}:{failure}"),
            Self::ResponseBytes => f.write_str("bytes:response"),
            Self::RetriesAllowed => f.write_str("retries:allowed"),
            Self::RetriesDenied => f.write_str("retries:denied"),
            Self::Spared => f.write_str("spared"),
            Self::Transitions(to) => {
                let label = Admission::LABELS.get(usize::from(*to)).copied().unwrap_or("");
                write!(f, "transitions:{label}")
            }
        }
    }
}

impl Series {
    /// Reads the text of a series; `None`: this version does not know it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "assigned" => return Some(Self::Assigned),
            "bytes:request" => return Some(Self::RequestBytes),
            "bytes:response" => return Some(Self::ResponseBytes),
            "duration_micros" => return Some(Self::DurationSumMicros),
            "pin_age_seconds" => return Some(Self::PinAgeSumSeconds),
            "pins:followed" => return Some(Self::PinsFollowed),
            "pins:made" => return Some(Self::PinsMade),
            "probes:failed" => return Some(Self::ProbesFailed),
            "probes:passed" => return Some(Self::ProbesPassed),
            "retries:allowed" => return Some(Self::RetriesAllowed),
            "retries:denied" => return Some(Self::RetriesDenied),
            "spared" => return Some(Self::Spared),
            _ => {}
        }
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "adopted" => Some(Self::Adopted(rest.into())),
            "affinity" => {
                let (outcome, cause) = rest.split_once(':')?;
                let outcome = Outcome::ALL.into_iter().find(|one| one.as_str() == outcome)?;
                let known = Cause::ALL.into_iter().find(|one| one.as_str() == cause);
                (cause.is_empty() || known.is_some()).then_some(Self::Affinity(outcome, known))
            }
            "connects" => {
                Connect::ALL.into_iter().find(|one| one.as_str() == rest).map(Self::Connects)
            }
            "duration" => bucket(&DURATION_BOUNDS, rest).map(Self::Duration),
            "ejections" => {
                Why::ALL.into_iter().find(|one| one.as_str() == rest).map(Self::Ejections)
            }
            "pin_age" => bucket(&AGE_BOUNDS, rest).map(Self::PinAge),
            "requests" => {
                let (status, failure) = rest.split_once(':')?;
                Some(Self::Requests(status.parse().ok()?, Cow::Owned(failure.to_owned())))
            }
            "transitions" => {
                let labels = Admission::LABELS.iter().zip(0..);
                labels
                    .into_iter()
                    .find(|(one, _)| **one == rest)
                    .map(|(_, to)| Self::Transitions(to))
            }
            _ => None,
        }
    }
}

/// The upper bound of a bucket, as a text.
fn bound(bounds: &[f64], bucket: u8) -> String {
    bounds.get(usize::from(bucket)).map_or_else(|| "inf".to_owned(), ToString::to_string)
}

/// The bucket whose upper bound is this text.
fn bucket(bounds: &[f64], text: &str) -> Option<u8> {
    let last = u8::try_from(bounds.len()).unwrap_or(u8::MAX);
    (0..=last).find(|bucket| bound(bounds, *bucket) == text)
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a series of another version"))
    }
}

impl AppLive {
    /// What was counted so far; what is zero is left out.
    pub fn totals(&self) -> Vec<(Series, u64)> {
        let Some(counters) = self.seen() else { return Vec::new() };
        let requests = counters.requests().into_iter();
        let affinity = counters.affinity().into_iter();
        requests
            .map(|(status, failure, count)| (Series::Requests(status, failure), count))
            .chain(affinity.map(|(outcome, cause, n)| (Series::Affinity(outcome, cause), n)))
            .chain((0..).map(Series::Duration).zip(counters.durations.read()))
            .chain((0..).map(Series::PinAge).zip(counters.pin_ages.read()))
            .chain(self.adopted().into_iter().map(|(name, count)| (Series::Adopted(name), count)))
            .chain([
                (Series::DurationSumMicros, counters.durations.sum().read()),
                (Series::PinAgeSumSeconds, counters.pin_ages.sum().read()),
                (Series::RequestBytes, counters.request_bytes.read()),
                (Series::ResponseBytes, counters.response_bytes.read()),
                (Series::RetriesAllowed, counters.retries_allowed.read()),
                (Series::RetriesDenied, counters.retries_denied.read()),
            ])
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Adds what another process counted. A series of backends is skipped.
    pub fn add(&self, series: &Series, count: u64) {
        match series {
            Series::Adopted(cookie) => self.add_adopted(cookie, count),
            Series::Affinity(outcome, cause) => {
                self.counters().add_affinity(*outcome, *cause, count);
            }
            Series::Duration(bucket) => {
                self.counters().durations.add_bucket(usize::from(*bucket), count);
            }
            Series::DurationSumMicros => self.counters().durations.sum().add(count),
            Series::PinAge(bucket) => {
                self.counters().pin_ages.add_bucket(usize::from(*bucket), count);
            }
            Series::PinAgeSumSeconds => self.counters().pin_ages.sum().add(count),
            Series::RequestBytes => self.counters().request_bytes.add(count),
            Series::Requests(status, failure) => {
                let failure = (!failure.is_empty()).then(|| failure.clone());
                self.counters().add_requests(*status, failure, count);
            }
            Series::ResponseBytes => self.counters().response_bytes.add(count),
            Series::RetriesAllowed => self.counters().retries_allowed.add(count),
            Series::RetriesDenied => self.counters().retries_denied.add(count),
            Series::Assigned
            | Series::Connects(_)
            | Series::Ejections(_)
            | Series::PinsFollowed
            | Series::PinsMade
            | Series::ProbesFailed
            | Series::ProbesPassed
            | Series::Spared
            | Series::Transitions(_) => {}
        }
    }
}

impl BackendLive {
    /// What was counted so far; what is zero is left out.
    pub fn totals(&self) -> Vec<(Series, u64)> {
        let connects = Connect::ALL.map(|way| (Series::Connects(way), self.connects(way)));
        let transitions = (0..).map(Series::Transitions).zip(self.all_transitions());
        let ejections = Why::ALL.map(|why| (Series::Ejections(why), self.ejections(why)));
        connects
            .into_iter()
            .chain(transitions)
            .chain(ejections)
            .chain([
                (Series::Assigned, self.requests.read()),
                (Series::PinsFollowed, self.pins_followed.read()),
                (Series::PinsMade, self.pins_made.read()),
                (Series::ProbesFailed, self.probes_failed.read()),
                (Series::ProbesPassed, self.probes_passed.read()),
                (Series::Spared, self.spared.read()),
            ])
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Adds what another process counted. A series of apps is skipped.
    pub fn add(&self, series: &Series, count: u64) {
        match series {
            Series::Assigned => self.requests.add(count),
            Series::Connects(way) => self.add_connects(*way, count),
            Series::Ejections(why) => self.add_ejections(*why, count),
            Series::PinsFollowed => self.pins_followed.add(count),
            Series::PinsMade => self.pins_made.add(count),
            Series::ProbesFailed => self.probes_failed.add(count),
            Series::ProbesPassed => self.probes_passed.add(count),
            Series::Spared => self.spared.add(count),
            Series::Transitions(to) => self.add_transitions(usize::from(*to), count),
            Series::Adopted(_)
            | Series::Affinity(..)
            | Series::Duration(_)
            | Series::DurationSumMicros
            | Series::PinAge(_)
            | Series::PinAgeSumSeconds
            | Series::RequestBytes
            | Series::Requests(..)
            | Series::ResponseBytes
            | Series::RetriesAllowed
            | Series::RetriesDenied => {}
        }
    }
}

/// Counts by series. None of them is zero.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Totals(pub BTreeMap<Series, u64>);

impl Totals {
    /// What was counted since `earlier`. What did not grow is left out.
    #[must_use]
    pub fn minus(&self, earlier: &Self) -> Self {
        let grown = |(series, count): (&Series, &u64)| {
            let before = earlier.0.get(series).copied().unwrap_or(0);
            let more = count.saturating_sub(before);
            (more > 0).then(|| (series.clone(), more))
        };
        Self(self.0.iter().filter_map(grown).collect())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Series, u64)> for Totals {
    fn from_iter<I: IntoIterator<Item = (Series, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().filter(|(_, count)| *count > 0).collect())
    }
}

impl<'de> Deserialize<'de> for Totals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let known = |(text, count): (String, u64)| Some((Series::parse(&text)?, count));
        Ok(counts.into_iter().filter_map(known).collect())
    }
}

/// What was counted of one app and its backends.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct AppTotals {
    /// Of the app itself.
    pub own: Totals,
    /// Of its backends, by id.
    pub backends: BTreeMap<String, Totals>,
    /// Who came to its backends lately, by id: [`BackendLive::export_seen`] in base64.
    pub seen: BTreeMap<String, String>,
}

/// What one process counted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct AllTotals {
    /// Of apps and their backends, by the name of the app.
    pub apps: BTreeMap<String, AppTotals>,
    /// Of requests that no app serves.
    pub unrouted: Totals,
    /// Pins that were read with each key, by its id, and when last, in Unix seconds.
    #[serde(default)]
    pub keys: BTreeMap<String, (u64, u64)>,
}

impl AllTotals {
    /// What was counted so far of everything in `snapshot`.
    pub fn gather(snapshot: &Snapshot, unrouted: &AppLive) -> Self {
        let apps = snapshot.apps.iter().map(|view| {
            let backends = view.app.backends.iter();
            let seen = view.app.backends.iter().filter_map(|one| {
                Some((one.id.to_string(), STANDARD.encode(one.live.export_seen()?)))
            });
            let totals = AppTotals {
                own: view.app.live.totals().into_iter().collect(),
                backends: backends
                    .map(|one| (one.id.to_string(), one.live.totals().into_iter().collect()))
                    .collect(),
                seen: seen.collect(),
            };
            (view.app.name.to_string(), totals)
        });
        let keys = snapshot.keyring.iter().flat_map(|ring| ring.keys());
        let keys = keys.map(|key| (key.id().to_string(), (key.used().opens(), key.used().last())));
        Self {
            apps: apps.collect(),
            unrouted: unrouted.totals().into_iter().collect(),
            keys: keys.collect(),
        }
    }

    /// What was counted since `earlier`. Who came lately stays: taking it in twice changes nothing.
    #[must_use]
    pub fn minus(&self, earlier: &Self) -> Self {
        let none = AppTotals::default();
        let apps = self
            .apps
            .iter()
            .map(|(name, app)| (name.clone(), app.minus(earlier.apps.get(name).unwrap_or(&none))));
        let keys = self.keys.iter().map(|(id, (opens, last))| {
            let before = earlier.keys.get(id).map_or(0, |(opens, _)| *opens);
            (id.clone(), (opens.saturating_sub(before), *last))
        });
        Self {
            apps: apps.collect(),
            unrouted: self.unrouted.minus(&earlier.unrouted),
            keys: keys.collect(),
        }
    }

    /// Adds all this to the counters of a process. What it does not serve is skipped.
    pub fn add_to(&self, snapshot: &Snapshot, unrouted: &AppLive) {
        self.unrouted.0.iter().for_each(|(series, count)| unrouted.add(series, *count));
        for key in snapshot.keyring.iter().flat_map(|ring| ring.keys()) {
            if let Some((opens, last)) = self.keys.get(&key.id().to_string()) {
                key.used().add(*opens, *last);
            }
        }
        for view in snapshot.apps.iter() {
            let Some(totals) = self.apps.get(view.app.name.as_str()) else { continue };
            let live = &view.app.live;
            totals.own.0.iter().for_each(|(series, count)| live.add(series, *count));
            for backend in &view.app.backends {
                let counted = totals.backends.get(backend.id.as_str());
                let counts = counted.into_iter().flat_map(|totals| &totals.0);
                counts.for_each(|(series, count)| backend.live.add(series, *count));
                let seen = totals.seen.get(backend.id.as_str());
                if let Some(seen) = seen.and_then(|text| STANDARD.decode(text).ok()) {
                    backend.live.absorb_seen(&seen);
                }
            }
        }
    }
}

impl AppTotals {
    fn minus(&self, earlier: &Self) -> Self {
        let none = Totals::default();
        let backends = self.backends.iter().map(|(id, totals)| {
            (id.clone(), totals.minus(earlier.backends.get(id).unwrap_or(&none)))
        });
        Self {
            own: self.own.minus(&earlier.own),
            backends: backends.collect(),
            seen: self.seen.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing::*;

    /// A process that counted nothing, with these backends.
    fn fresh(ids: &[&str]) -> (Snapshot, AppLive) {
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec(ids))), Duration::ZERO);
        let snapshot = balancer.snapshot();
        snapshot.apps[0].app.live.keep_adopted(["route"].into_iter());
        (snapshot, AppLive::default())
    }

    /// Counts one of everything.
    fn work((snapshot, unrouted): &(Snapshot, AppLive)) {
        unrouted.counters().count_request(404, Some("unknown_host"));
        let app = &snapshot.apps[0].app;
        let counters = app.live.counters();
        counters.count_request(200, None);
        counters.count_request(0, None);
        counters.count_request(503, Some("none_open"));
        counters.durations.observe(Duration::from_millis(3));
        counters.durations.observe(Duration::from_secs(99));
        counters.pin_ages.observe(61);
        counters.request_bytes.add(7);
        counters.response_bytes.add(8);
        counters.in_flight.add(1);
        app.live.add_adopted("route", 2);
        for outcome in Outcome::ALL {
            counters.count_affinity(outcome, None);
            Cause::ALL.iter().for_each(|cause| counters.count_affinity(outcome, Some(*cause)));
        }
        let live = &app.backends[0].live;
        live.requests.add(3);
        live.pins_made.add(1);
        live.pins_followed.add(2);
        live.probes_passed.add(4);
        live.probes_failed.add(5);
        live.in_flight.add(1);
        live.note_client(1 << 63);
        Connect::ALL.iter().for_each(|way| live.count_connect(*way));
        (0..Admission::LABELS.len()).for_each(|to| live.count_transition(to));
    }

    fn gathered((snapshot, unrouted): &(Snapshot, AppLive)) -> AllTotals {
        AllTotals::gather(snapshot, unrouted)
    }

    fn through_json(totals: &AllTotals) -> AllTotals {
        serde_json::from_str(&serde_json::to_string(totals).unwrap()).unwrap()
    }

    #[test]
    fn a_successor_counts_on_from_what_it_was_handed() {
        let (predecessor, successor) = (fresh(&["a", "b"]), fresh(&["b", "a"]));
        work(&predecessor);
        let handed = gathered(&predecessor);
        through_json(&handed).add_to(&successor.0, &successor.1);
        assert_eq!(gathered(&successor), handed);
        let live = |(snapshot, _): &(Snapshot, AppLive)| {
            snapshot.apps[0].app.live.counters().durations.read()
        };
        assert_eq!(live(&successor), live(&predecessor));
    }

    #[test]
    fn what_a_process_holds_is_not_handed_on() {
        let (predecessor, successor) = (fresh(&["a"]), fresh(&["a"]));
        work(&predecessor);
        gathered(&predecessor).add_to(&successor.0, &successor.1);
        let app = &successor.0.apps[0].app;
        assert_eq!(app.live.counters().in_flight.read(), 0);
        assert_eq!(app.backends[0].live.in_flight.read(), 0);
    }

    #[test]
    fn deltas_sum_up_and_nothing_decreases() {
        let (predecessor, successor) = (fresh(&["a"]), fresh(&["a"]));
        let mut sent = AllTotals::default();
        for round in 0..4 {
            if round % 2 == 0 {
                work(&predecessor);
            }
            let (before, now) = (gathered(&successor), gathered(&predecessor));
            through_json(&now.minus(&sent)).add_to(&successor.0, &successor.1);
            assert_eq!(gathered(&successor), now);
            let fell = before.minus(&now);
            assert!(fell.unrouted.is_empty() && fell.apps["shop"].own.is_empty());
            assert!(fell.apps["shop"].backends.values().all(Totals::is_empty));
            assert_eq!(successor.0.apps[0].app.backends[0].live.bound_clients(), 1);
            sent = now;
        }
    }

    #[test]
    fn a_counter_that_fell_behind_is_no_delta() {
        let totals = |count| Totals::from_iter([(Series::Assigned, count)]);
        assert_eq!(totals(5).minus(&totals(3)), totals(2));
        assert!(totals(3).minus(&totals(5)).is_empty());
        assert!(totals(3).minus(&totals(3)).is_empty());
    }

    #[test]
    fn what_this_version_does_not_know_is_skipped() {
        let text = r#"{
            "version": 7,
            "apps": {
                "shop": {
                    "own": { "requests:200:": 1, "tea:brewed": 2, "affinity:adopted:": 3,
                             "affinity:moved:bored": 4, "duration:7": 5, "requests:x:": 6, "adopted:gone": 6 },
                    "backends": { "a": { "assigned": 7, "connects:guessed": 8 }, "gone": { "assigned": 9 } },
                    "seen": { "a": "no base64!", "gone": "AAAA" }
                },
                "gone": { "own": { "requests:200:": 1 } }
            }
        }"#;
        let successor = fresh(&["a"]);
        serde_json::from_str::<AllTotals>(text).unwrap().add_to(&successor.0, &successor.1);
        let all = gathered(&successor);
        let shop = &all.apps["shop"];
        assert_eq!(shop.own.0, BTreeMap::from([(Series::Requests(200, "".into()), 1)]));
        assert_eq!(shop.backends["a"].0, BTreeMap::from([(Series::Assigned, 7)]));
        assert_eq!(all.apps.len(), 1);
    }

    #[test]
    fn a_series_is_a_short_text() {
        let series = Series::Affinity(Outcome::Moved, Some(Cause::Removed));
        assert_eq!(serde_json::to_string(&series).unwrap(), "\"affinity:moved:removed\"");
        assert_eq!(
            serde_json::from_str::<Series>("\"transitions:pinned_only\"").unwrap(),
            Series::Transitions(1)
        );
        assert_eq!(Series::Duration(1).to_string(), "duration:0.0025");
        assert_eq!(Series::PinAge(1).to_string(), "pin_age:600");
        assert_eq!(Series::parse("pin_age:inf"), Some(Series::PinAge(9)));
        assert_eq!(Series::parse("duration:inf"), Some(Series::Duration(14)));
        assert_eq!(Series::parse("adopted:a"), Some(Series::Adopted("a".into())));
        assert!(serde_json::from_str::<Series>("\"tea\"").is_err());
    }
}
