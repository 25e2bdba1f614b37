//! What happens to clients when a new configuration is taken: plain data for commands, text for the
//! terminal.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Change, Pins, Sign, between};
use crate::balancer::affinity::way::Way;
use crate::balancer::app::App;
use crate::balancer::app::backend::Backend;
use crate::balancer::app::live::BackendLive;
use crate::balancer::app::view::AppView;
use crate::balancer::name::AppName;
use crate::balancer::state::{Snapshot, Spec};

/// What a new configuration changes, and for how many.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Plan {
    /// The changes, one a line.
    pub lines: Vec<Line>,
    /// What the change needs a restart for, by key of the file; whoever knows of listeners fills it in.
    pub needs_restart: Vec<String>,
    /// What is new.
    pub joining: Count,
    /// What goes.
    pub leaving: Count,
    /// About how many clients that came in the last 5 to 10 minutes move, each counted once.
    pub bound_clients: u64,
    /// Streams that finish on a backend that goes, or on its former address.
    pub streams: u64,
    /// Requests that finish there, streams not among them.
    pub requests_in_flight: u64,
}

/// Apps, and backends of apps that stay.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Count {
    /// Apps.
    pub apps: usize,
    /// Backends of other apps.
    pub backends: usize,
}

/// One change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Line {
    /// Its direction.
    pub sign: Sign,
    /// The change in the words of the file, such as `weight 1 -> 2`.
    pub text: String,
    /// The app it concerns; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The backend it concerns; `None`: no single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// About how many clients that came in the last 5 to 10 minutes lose their pin by it.
    pub bound_clients: u64,
    /// Streams that finish where the change ends something.
    pub streams: u64,
    /// Requests that finish there, streams not among them.
    pub requests_in_flight: u64,
    /// Whether pins are lost by it, of clients that came lately or not.
    pub moves_pins: bool,
    /// Whether it moves some of the clients that are known by a hash; nobody knows how many there are.
    #[serde(default)]
    pub rehashes: bool,
}

impl Plan {
    /// What it means for the clients of `snapshot`, which `before` made, to go over to `after`.
    pub fn new(before: &Spec, after: &Spec, snapshot: &Snapshot) -> Self {
        let ground = Ground(snapshot);
        let (mut plan, mut moved, mut ended) = (Self::default(), BTreeSet::new(), BTreeSet::new());
        for change in between(before, after) {
            plan.count(&change);
            let moves = ground.moved_by(&change.pins());
            let ends = ground.ended_by(&change);
            let rehashes = ground.rehashes(&change);
            let breaks = change.pins() != Pins::None && ground.has_pins(change.app());
            plan.lines.push(Line {
                sign: change.sign(),
                text: change.to_string(),
                app: change.app().map(ToString::to_string),
                backend: change.backend().map(ToString::to_string),
                bound_clients: ground.sum(&moves, BackendLive::bound_clients),
                streams: ground.sum(&ends, streams),
                requests_in_flight: ground.sum(&ends, requests),
                moves_pins: breaks || rehashes,
                rehashes,
            });
            moved.extend(moves);
            ended.extend(ends);
        }
        plan.bound_clients = ground.sum(&moved, BackendLive::bound_clients);
        plan.streams = ground.sum(&ended, streams);
        plan.requests_in_flight = ground.sum(&ended, requests);
        plan
    }

    /// Adds what changes in the process, which concerns no app and moves nobody.
    pub fn of_process(&mut self, changes: Vec<(Sign, String)>) {
        let line = |(sign, text)| Line {
            sign,
            text,
            app: None,
            backend: None,
            bound_clients: 0,
            streams: 0,
            requests_in_flight: 0,
            moves_pins: false,
            rehashes: false,
        };
        self.lines.extend(changes.into_iter().map(line));
    }

    /// Whether no client loses its pin and no restart is needed.
    pub fn harmless(&self) -> bool {
        self.needs_restart.is_empty() && !self.lines.iter().any(|line| line.moves_pins)
    }

    /// Whether both configurations ask for the same.
    pub fn is_empty(&self) -> bool {
        self.needs_restart.is_empty() && self.lines.is_empty()
    }

    fn count(&mut self, change: &Change) {
        self.joining.apps += usize::from(matches!(change, Change::AppAdded { .. }));
        self.joining.backends += usize::from(matches!(change, Change::BackendAdded { .. }));
        self.leaving.apps += usize::from(matches!(change, Change::AppRemoved { .. }));
        self.leaving.backends += usize::from(matches!(change, Change::BackendRemoved { .. }));
    }

    /// The last line on the terminal.
    fn summary(&self) -> String {
        let (joining, leaving) = (self.joining, self.leaving);
        let mut first = Vec::new();
        for (count, noun, verb) in [
            (joining.apps, "app", "join"),
            (joining.backends, "backend", "join"),
            (leaving.apps, "app", "leave"),
            (leaving.backends, "backend", "leave"),
        ] {
            if count > 0 {
                let ending = if count == 1 { "s" } else { "" };
                first.push(format!("{} {verb}{ending}", several(count, noun)));
            }
        }
        first.push(match (self.bound_clients, self.lines.iter().any(|line| line.moves_pins)) {
            (0, false) => "no client moves".into(),
            (0, true) if self.lines.iter().any(|line| line.rehashes) => "some clients move".into(),
            (0, true) => "no client seen lately moves".into(),
            (1, _) => "about 1 client moves".into(),
            (count, _) => format!("about {count} clients move"),
        });
        let mut parts = vec![first.join(", ")];
        let finishing = finishing(self.streams, self.requests_in_flight);
        if let [(1, _)] = finishing[..] {
            parts.push(format!("{} finishes first", words(&finishing).join("")));
        } else if !finishing.is_empty() {
            parts.push(format!("{} finish first", words(&finishing).join(" and ")));
        }
        parts.push(match self.needs_restart.is_empty() {
            true => "no restart needed".into(),
            false => format!("a restart is needed for {}", self.needs_restart.join(", ")),
        });
        format!("{}.", parts.join("; "))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        let width = self.lines.iter().map(|line| line.subject().len()).max().unwrap_or(0);
        for line in &self.lines {
            write!(f, "{} {:width$}  {}", line.sign, line.subject(), line.text)?;
            let mut notes = Vec::new();
            match line.bound_clients {
                0 if line.rehashes => {
                    notes.push("its share of the clients known by a hash moves".to_owned());
                }
                0 if line.moves_pins => notes.push("pins are lost".to_owned()),
                0 => {}
                1 => notes.push("about 1 client moves".to_owned()),
                count => notes.push(format!("about {count} clients move")),
            }
            notes.extend(words(&finishing(line.streams, line.requests_in_flight)));
            match notes.is_empty() {
                true => writeln!(f)?,
                false => writeln!(f, " ({})", notes.join(", "))?,
            }
        }
        f.write_str(&self.summary())
    }
}

impl Line {
    /// Whose change it is, as one word.
    fn subject(&self) -> String {
        match (&self.app, &self.backend) {
            (Some(app), Some(backend)) => format!("{app}/{backend}"),
            (Some(app), None) => app.clone(),
            (None, _) => "*".into(),
        }
    }
}

/// `1 backend`, `2 backends`.
pub(super) fn several(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn finishing(streams: u64, requests: u64) -> Vec<(u64, &'static str)> {
    let all = [(streams, "stream"), (requests, "request")];
    all.into_iter().filter(|(count, _)| *count > 0).collect()
}

fn words(finishing: &[(u64, &'static str)]) -> Vec<String> {
    let word =
        |(count, noun): &(u64, &str)| several(usize::try_from(*count).unwrap_or(usize::MAX), noun);
    finishing.iter().map(word).collect()
}

/// A backend, by the place of its app in the snapshot and its own in the app: each counts once.
type Place = (usize, usize);

/// What runs now.
struct Ground<'s>(&'s Snapshot);

impl Ground<'_> {
    /// Backends of one app; `None`: of all.
    fn places(
        &self,
        app: Option<&AppName>,
        wanted: impl Fn(&App, &Backend) -> bool,
    ) -> BTreeSet<Place> {
        let indices = match app {
            Some(name) => self.0.names.get(name).map_or(0..0, |index| index.0..index.0 + 1),
            None => 0..self.0.apps.len(),
        };
        let apps = indices.map(|index| (index, &self.0.apps[index].app));
        let all = apps.flat_map(|(index, app)| {
            let backends = app.backends.iter().enumerate();
            backends.map(move |(place, backend)| ((index, place), app, backend))
        });
        all.filter(|(_, app, backend)| wanted(app, backend)).map(|(place, ..)| place).collect()
    }

    fn sum(&self, places: &BTreeSet<Place>, value: fn(&BackendLive) -> u64) -> u64 {
        let live = |(app, backend): &Place| &self.0.apps[*app].app.backends[*backend].live;
        places.iter().map(|place| value(live(place))).sum()
    }

    /// The backends whose pins are broken.
    fn moved_by(&self, pins: &Pins) -> BTreeSet<Place> {
        let pinned = |app: &App, _: &Backend| app.affinity.is_some();
        match pins {
            Pins::All => self.places(None, pinned),
            Pins::Dormant | Pins::None => BTreeSet::new(),
            Pins::OfApp(name) => self.places(Some(name), pinned),
            Pins::OfBackend(name, id) => {
                self.places(Some(name), |app, backend| pinned(app, backend) && backend.id == *id)
            }
        }
    }

    /// The backends that get nothing more where they are now.
    fn ended_by(&self, change: &Change) -> BTreeSet<Place> {
        match change {
            Change::AppRemoved { app, .. } => self.places(Some(app), |_, _| true),
            Change::BackendRemoved { app, backend: id }
            | Change::Readdressed { app, backend: id, .. } => {
                self.places(Some(app), |_, backend| backend.id == *id)
            }
            Change::AppAdded { .. }
            | Change::BackendAdded { .. }
            | Change::DefaultApp { .. }
            | Change::DomainAdded { .. }
            | Change::DomainRemoved { .. }
            | Change::KeyAdded { .. }
            | Change::KeyRemoved { .. }
            | Change::KeysReordered { .. }
            | Change::PrefixAdded { .. }
            | Change::PrefixRemoved { .. }
            | Change::Reincarnated { .. }
            | Change::Reweighted { .. }
            | Change::Setting { .. } => BTreeSet::new(),
        }
    }

    /// Whether another list of backends leads some clients elsewhere, who are known by a hash. Those of a
    /// backend that goes are counted among its own.
    fn rehashes(&self, change: &Change) -> bool {
        let (Change::BackendAdded { app: name, .. } | Change::Reweighted { app: name, .. }) =
            change
        else {
            return false;
        };
        let view = self.0.app(name.as_str());
        let affinity = view.and_then(|view| view.app.affinity.as_ref());
        affinity.is_some_and(|own| own.policy.identify_by.iter().any(Way::is_hashed))
    }

    /// Whether the app keeps clients on their backends; `None`: whether any does.
    fn has_pins(&self, name: Option<&AppName>) -> bool {
        let has_pins = |view: &Arc<AppView>| view.app.affinity.is_some();
        match name {
            Some(name) => self.0.app(name.as_str()).is_some_and(has_pins),
            None => self.0.apps.iter().any(has_pins),
        }
    }
}

/// Requests that are being served; a stream is one as well, and is counted apart.
fn requests(live: &BackendLive) -> u64 {
    live.in_flight.read().saturating_sub(live.streams.read())
}

fn streams(live: &BackendLive) -> u64 {
    live.streams.read()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balancer::name::BackendId;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing::*;

    fn running(spec: &Spec) -> Snapshot {
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec.clone())), Duration::ZERO);
        balancer.snapshot()
    }

    /// Lets clients come to a backend; some requests stay, and one of them is a stream.
    fn visit(snapshot: &Snapshot, id: &str, clients: u64) {
        let app = &snapshot.apps[0].app;
        let live = &app.backends.iter().find(|backend| backend.id.as_str() == id).unwrap().live;
        // As many registers: few clients are counted exactly.
        (0..clients).for_each(|client| live.note_client(client << 56));
        live.in_flight.add(3);
        live.streams.add(1);
    }

    /// The plan for leaving `a`, `b` and `c`, each with ten clients.
    fn plan(change: impl FnOnce(&mut Spec)) -> Plan {
        let before = spec(&["a", "b", "c"]);
        let snapshot = running(&before);
        for id in ["a", "b", "c"] {
            visit(&snapshot, id, 10);
        }
        let mut after = before.clone();
        change(&mut after);
        Plan::new(&before, &after, &snapshot)
    }

    #[test]
    fn the_same_changes_nothing() {
        let plan = plan(|spec| spec.apps[0].backends.reverse());
        assert!(plan.is_empty() && plan.harmless());
        assert_eq!(plan.to_string(), "nothing changes");
    }

    #[test]
    fn a_backend_that_leaves_moves_its_clients_and_finishes_what_it_has() {
        let plan = plan(|spec| {
            spec.apps[0].backends.truncate(1);
            spec.apps[0].backends[0].weight = 2;
            spec.apps[0].backends.push(backend("longer-name"));
        });
        assert!(!plan.harmless());
        assert_eq!(
            plan.to_string(),
            "~ shop/a            weight 1 -> 2\n\
             + shop/longer-name  joins at 127.0.0.1:1\n\
             - shop/b            leaves (about 10 clients move, 1 stream, 2 requests)\n\
             - shop/c            leaves (about 10 clients move, 1 stream, 2 requests)\n\
             1 backend joins, 2 backends leave, about 20 clients move; 2 streams and 4 requests finish first; \
             no restart needed."
        );
    }

    #[test]
    fn a_client_that_two_changes_move_is_counted_once() {
        let plan = plan(|spec| {
            spec.apps[0].backends.pop();
            spec.apps[0].affinity = None;
        });
        let clients: Vec<u64> = plan.lines.iter().map(|line| line.bound_clients).collect();
        assert_eq!((clients, plan.bound_clients), (vec![30, 10], 30));
    }

    #[test]
    fn what_moves_nobody_is_harmless_unless_it_needs_a_restart() {
        let mut plan = plan(|spec| {
            spec.apps[0].backends[0].address =
                crate::balancer::app::backend::Address::Tcp("127.0.0.1:2".parse().unwrap());
        });
        assert!(plan.harmless());
        assert_eq!(
            plan.to_string(),
            "~ shop/a  address 127.0.0.1:1 -> 127.0.0.1:2 (1 stream, 2 requests)\n\
             no client moves; 1 stream and 2 requests finish first; no restart needed."
        );
        plan.needs_restart.push("listeners".into());
        assert!(!plan.harmless());
        assert!(plan.to_string().ends_with("a restart is needed for listeners."));
    }

    #[test]
    fn pins_are_lost_only_where_there_are_any() {
        let mut before = spec(&["a"]);
        before.apps[0].affinity = None;
        let snapshot = running(&before);
        let mut after = before.clone();
        after.apps[0].backends[0].id = BackendId::parse("b").unwrap();
        assert!(Plan::new(&before, &after, &snapshot).harmless());
    }

    #[test]
    fn another_list_of_backends_moves_clients_who_are_known_by_a_hash() {
        let mut before = spec(&["a", "b"]);
        if let Some(affinity) = &mut before.apps[0].affinity {
            affinity.identify_by = Box::new([Way::Cookie, Way::Address]);
        }
        let mut after = before.clone();
        after.apps[0].backends.push(backend("c"));
        after.apps[0].backends[0].weight = 2;
        let plan = Plan::new(&before, &after, &running(&before));
        assert!(!plan.harmless());
        assert_eq!(
            plan.to_string(),
            "~ shop/a  weight 1 -> 2 (its share of the clients known by a hash moves)\n\
             + shop/c  joins at 127.0.0.1:1 (its share of the clients known by a hash moves)\n\
             1 backend joins, some clients move; no restart needed."
        );
    }

    #[test]
    fn a_plan_travels_as_json() {
        let plan = plan(|spec| spec.apps.clear());
        let text = serde_json::to_string(&plan).unwrap();
        assert!(
            text.contains(r#"{"sign":"removed","text":"leaves with 3 backends","app":"shop","#)
        );
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert_eq!(plan.to_string().lines().count(), 2);
    }
}
