//! What would happen to a request now, and why, step by step: the same decision as for a real one.

use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Uri};
use rand::Rng;
use serde::Serialize;

use super::affinity::way::{Found, Shown, Way};
use super::affinity::{Affinity, Presented, cookie};
use super::app::backend::Slot;
use super::app::members::Admission;
use super::app::view::{AppView, Tried};
use super::assign::{Assignment, Cause, Patience, Request, Waiting, assign};
use super::state::Snapshot;

/// Most values of cookies that are told of.
const VALUES_MAX: usize = 16;

/// What would happen.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// What would become of the pin; `None`: no app serves the request.
    pub outcome: Option<&'static str>,
    /// Why, where the outcome has a cause.
    pub cause: Option<&'static str>,
    /// Where the request would go, where that is not left to chance.
    pub backend: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What.
    pub what: &'static str,
    /// What was found.
    pub found: String,
}

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The name it asks for.
    pub host: &'a str,
    /// The path it asks for, with its query.
    pub uri: &'a Uri,
    /// Its cookies: a `Cookie` header, or the bare value of ours.
    pub cookies: &'a str,
    /// Its other headers.
    pub headers: HeaderMap,
    /// The address of its client.
    pub address: Option<IpAddr>,
}

/// Explains a request at `now` (Unix seconds).
pub fn explain(snapshot: &Snapshot, asked: &Asked<'_>, now: u64, rng: &mut impl Rng) -> Explained {
    let mut steps = Vec::new();
    let mut step = |what, found: String| steps.push(Step { what, found });
    let (host, path) = (asked.host, asked.uri.path());
    let Some(view) = snapshot.find(host.as_bytes(), path.as_bytes()) else {
        step("app", format!("none serves `{host}{path}`: the answer is 404"));
        return Explained { steps, outcome: None, cause: None, backend: None };
    };
    let open = view.admissions().filter(|(_, admission)| *admission == Admission::Open).count();
    let all = view.app.backends.len();
    step("app", format!("{}, {open} of {all} backends open", view.app.name));
    if view.maintenance {
        step("maintenance", "the operator took the app out of service".into());
    }
    let headers = headers(view.app.affinity.as_ref(), asked);
    let shown = Shown { headers: &headers, uri: asked.uri, address: asked.address };
    let (presented, place) = view.app.read(&shown, now);
    match &view.app.affinity {
        Some(affinity) => ways(view, affinity, &shown, now, &mut step),
        None => step("affinity", "off: every request goes to any backend".into()),
    }
    if let Some(slot) = home(view, &presented) {
        let (backend, admission) = (view.app.backend(slot), view.admission(slot));
        let reason = admission.reason();
        step("home", format!("{} at {}: {}", backend.id, backend.address, reason));
    }
    let request = Request {
        presented: &presented,
        tried: &Tried::NONE,
        patience: Patience::Waits,
        now,
        place,
        is_safe: true,
    };
    let assignment = assign(view, &request, rng);
    step("decision", decision(view, &request, &assignment));
    let backend = assignment.slot().filter(|_| !is_by_chance(&request, &assignment));
    Explained {
        outcome: Some(assignment.outcome().as_str()),
        cause: assignment.cause().map(Cause::as_str),
        backend: backend.map(|slot| view.app.backend(slot).id.to_string()),
        steps,
    }
}

/// The headers as a request shows them; a bare value of a cookie gets the name of ours.
fn headers(affinity: Option<&Affinity>, asked: &Asked<'_>) -> HeaderMap {
    let text = asked.cookies.trim().trim_start_matches("Cookie:").trim();
    let text = match affinity {
        Some(affinity) if !text.is_empty() && !text.contains('=') => {
            format!("{}={text}", affinity.cookie_name())
        }
        Some(_) | None => text.to_owned(),
    };
    let mut headers = asked.headers.clone();
    if let Ok(value) = HeaderValue::from_str(&text)
        && !value.is_empty()
    {
        headers.append(COOKIE, value);
    }
    headers
}

/// The home of who presents this.
fn home(view: &AppView, presented: &Presented) -> Option<Slot> {
    match presented {
        Presented::Key(key) => view.home_of(key),
        Presented::Pin(pin) => view.app.find(pin.token.backend),
        Presented::Nothing | Presented::Unusable(_) => None,
    }
}

/// Whether the backend might be another one for the next request like this.
fn is_by_chance(request: &Request<'_>, assignment: &Assignment) -> bool {
    let drawn =
        matches!(assignment, Assignment::Make(_) | Assignment::Move(..) | Assignment::Spread(_));
    drawn && request.place.is_none() && !matches!(request.presented, Presented::Key(_))
}

/// Tells what was found in each way to know the client, up to the one that decides.
fn ways(
    view: &AppView,
    affinity: &Affinity,
    shown: &Shown<'_>,
    now: u64,
    step: &mut impl FnMut(&'static str, String),
) {
    let mut gets_cookie = "it gets no cookie of ours";
    for way in &affinity.policy.identify_by {
        if *way == Way::Cookie {
            for found in values(view, affinity, shown.headers, now) {
                step("cookie", found);
            }
            if matches!(affinity.read(shown.headers, now), Presented::Pin(_)) {
                return;
            }
            gets_cookie = "it gets our cookie as well";
            continue;
        }
        let found = way.look(shown, |hash| view.app.find(hash).is_some());
        let decides = matches!(found, Found::Home(..) | Found::Place(_));
        step(
            "known by",
            match found {
                Found::Absent => format!("{way}: not shown"),
                Found::Gone(_) => format!("{way}: of a backend that is not on the list"),
                Found::Home(..) | Found::Place(_) => format!("{way}: decides; {gets_cookie}"),
            },
        );
        if decides {
            return;
        }
    }
}

/// What each value of our cookie says.
fn values(view: &AppView, affinity: &Affinity, headers: &HeaderMap, now: u64) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter();
    let values = lines.flat_map(|line| cookie::values(line.as_bytes(), affinity.cookie_name()));
    let mut told: Vec<String> =
        values.take(VALUES_MAX).map(|value| said(view, affinity, value, now)).collect();
    if told.is_empty() {
        told.push(format!("none of the name `{}`", affinity.cookie_name()));
    }
    told
}

fn said(view: &AppView, affinity: &Affinity, value: &[u8], now: u64) -> String {
    match affinity.open(value, now) {
        Err(error) => format!("not to be honoured: {}", Cause::from(error).as_str()),
        Ok(opened) => {
            let home = view.app.find(opened.token.backend);
            let home = home.map_or("a backend that is not on the list".into(), |slot| {
                view.app.backend(slot).id.to_string()
            });
            let age = now.saturating_sub(u64::from(opened.token.renewed));
            let key = if opened.newest_key { "the newest" } else { "an older one" };
            format!("ours: {home}, renewed {age} s ago, key {} ({key})", opened.key)
        }
    }
}

fn decision(view: &AppView, request: &Request<'_>, assignment: &Assignment) -> String {
    let id = |slot| view.app.backend(slot).id.to_string();
    let cause = assignment.cause().map_or("no pin", Cause::as_str);
    let by_key = matches!(request.presented, Presented::Key(_));
    let drawn = |slot: Slot| match (by_key, request.place) {
        (true, _) => format!("to {}, whose client it is by what it is known by", id(slot)),
        (false, Some(_)) => format!("{} is drawn, for all of this client at this time", id(slot)),
        (false, None) => format!("one of {} is drawn", shares(view)),
    };
    match assignment {
        Assignment::Borrow(slot, _) if by_key => {
            format!("{} stands in for the home: {cause}", id(*slot))
        }
        Assignment::Borrow(slot, _) => {
            format!("{} stands in, and the pin stays: {cause}", id(*slot))
        }
        Assignment::Follow(slot, _) if by_key => {
            format!("to {}, where what it is known by leads", id(*slot))
        }
        Assignment::Follow(slot, _) => format!("to {}, where the pin leads", id(*slot)),
        Assignment::Make(slot) => format!("a first visit: {}", drawn(*slot)),
        Assignment::Move(slot, _) if by_key => format!("moved, {cause}: {}", drawn(*slot)),
        Assignment::Move(slot, _) => format!("the pin is moved, {cause}: {}", drawn(*slot)),
        Assignment::Refuse(_) => format!("refused: {cause}"),
        Assignment::Spread(slot) => drawn(*slot),
        Assignment::Wait(Waiting::Home(_)) => format!("waits for its backend: {cause}"),
        Assignment::Wait(Waiting::Opening(closed, _)) => {
            format!("waits for a backend to open: {}", Admission::Closed(*closed).reason())
        }
        Assignment::Wait(Waiting::Turn(slot, _)) => {
            format!("waits for its turn at {}, which starts slowly", id(*slot))
        }
    }
}

/// The open backends with their shares.
fn shares(view: &AppView) -> String {
    let open = || view.admissions().filter(|(_, admission)| *admission == Admission::Open);
    let total: u64 = open().map(|(slot, _)| u64::from(view.weight(slot))).sum();
    let share = |(slot, _): (_, Admission)| {
        let percent = u64::from(view.weight(slot)) * 100 / total.max(1);
        format!("{} ({percent} %)", view.app.backend(slot).id)
    };
    open().map(share).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use std::time::Duration;

    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::affinity::cookie::Scheme;
    use crate::balancer::affinity::first_visit::FirstVisit;
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing;

    #[track_caller]
    fn check(backends: &str, host: &str, cookies: &str, expected: &str) {
        let snapshot = testing::balancer(OnUnavailable::Borrow, backends).snapshot();
        let uri = &Uri::from_static("/");
        let asked = Asked { host, uri, cookies, headers: HeaderMap::new(), address: None };
        assert_eq!(told(&snapshot, &asked), expected);
    }

    fn told(snapshot: &Snapshot, asked: &Asked<'_>) -> String {
        let told = explain(snapshot, asked, 1, &mut SmallRng::seed_from_u64(1));
        let step = |step: &Step| format!("{}: {}", step.what, step.found);
        told.steps.iter().map(step).collect::<Vec<_>>().join("\n")
    }

    /// A cookie for the backend `id`.
    fn pinned(id: &str) -> String {
        let snapshot = testing::balancer(OnUnavailable::Borrow, "a b").snapshot();
        let affinity = snapshot.apps[0].app.affinity.as_ref().unwrap();
        let cookie = affinity.set_cookie(&testing::pin(id).token, Scheme::Http, 1);
        cookie.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_request_that_no_app_serves_ends_there() {
        check("a b", "nobody.example", "", "app: none serves `nobody.example/`: the answer is 404");
    }

    #[test]
    fn a_first_visit_is_drawn() {
        let expected = "app: shop, 2 of 3 backends open\ncookie: none of the name `homing-affinity`\n\
                        decision: a first visit: one of a (50 %), b (50 %) is drawn";
        check("a b c!", "shop.example.com", "other=1", expected);
    }

    #[test]
    fn a_pin_is_followed_or_lent_and_a_bad_cookie_told() {
        let key = testing::keyring().keys()[0].id();
        let ours = format!("ours: b, renewed 0 s ago, key {key} (the newest)");
        let followed = format!(
            "app: shop, 2 of 2 backends open\ncookie: {ours}\nhome: b at 127.0.0.1:1: healthy\n\
             decision: to b, where the pin leads"
        );
        check("a b", "shop.example.com", &pinned("b"), &followed);
        let bare = pinned("b");
        check("a b", "shop.example.com", bare.split_once('=').unwrap().1, &followed);
        let lent = format!(
            "app: shop, 1 of 2 backends open\ncookie: {ours}\nhome: b at 127.0.0.1:1: unhealthy\n\
             decision: a stands in, and the pin stays: unhealthy"
        );
        check("a b!", "shop.example.com", &pinned("b"), &lent);
        let bad = "app: shop, 1 of 1 backends open\ncookie: not to be honoured: malformed\n\
                   decision: the pin is moved, malformed: one of a (100 %) is drawn";
        check("a", "shop.example.com", "homing-affinity=x", bad);
    }

    /// A snapshot of the app with these backends, known by our cookie, a header and the address, drawn by client.
    fn by_many(backends: &str) -> Snapshot {
        let mut spec = testing::spec(&backends.split(' ').collect::<Vec<_>>());
        if let Some(affinity) = &mut spec.apps[0].affinity {
            let header = Way::Header(http::header::AUTHORIZATION);
            affinity.identify_by = Box::new([Way::Cookie, header, Way::Query("sid".into())]);
            affinity.first_visit = FirstVisit::ByClient(10 * testing::SECOND);
        }
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        for id in backends.split(' ') {
            balancer.apply(testing::probed(id, ProbeOutcome::Passed), Duration::ZERO);
        }
        balancer.snapshot()
    }

    #[test]
    fn the_ways_to_know_a_client_are_told_up_to_the_one_that_decides() {
        let snapshot = by_many("a b c");
        let uri = Uri::from_static("/?sid=1");
        let host = "shop.example.com";
        let asked =
            |cookies| Asked { host, uri: &uri, cookies, headers: HeaderMap::new(), address: None };
        let known = "app: shop, 3 of 3 backends open\ncookie: none of the name `homing-affinity`\n\
                     known by: header authorization: not shown\n\
                     known by: query sid: decides; it gets our cookie as well\n\
                     home: c at 127.0.0.1:1: healthy\n\
                     decision: to c, where what it is known by leads";
        assert_eq!(told(&snapshot, &asked("")), known);
        let pinned = pinned("a");
        let followed = told(&snapshot, &asked(&pinned));
        assert!(!followed.contains("known by"), "{followed}");
        let moved = told(&snapshot, &asked("homing-affinity=x"));
        let end = "decision: moved, malformed: to c, whose client it is by what it is known by";
        assert!(moved.ends_with(end), "{moved}");
    }

    #[test]
    fn a_first_visit_that_is_drawn_by_client_is_told_with_its_backend() {
        let (snapshot, uri) = (by_many("a b c"), Uri::from_static("/"));
        let (host, address) = ("shop.example.com", Some([192, 0, 2, 7].into()));
        let asked = Asked { host, uri: &uri, cookies: "", headers: HeaderMap::new(), address };
        let mut rng = SmallRng::seed_from_u64(1);
        let backends: Vec<_> =
            (0..4).map(|_| explain(&snapshot, &asked, 1, &mut rng).backend.unwrap()).collect();
        assert!(backends.iter().all(|id| *id == backends[0]), "{backends:?}");
        let end = format!(
            "decision: a first visit: {} is drawn, for all of this client at this time",
            backends[0]
        );
        let told = told(&snapshot, &asked);
        assert!(told.ends_with(&end), "{told}");
    }
}
