//! What would happen to a request now, and why, step by step: the same decision as for a real one.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use rand::Rng;
use serde::Serialize;

use super::affinity::foreign::{Adopted, Foreign};
use super::affinity::start::StartOn;
use super::affinity::{Affinity, Presented};
use super::app::backend::Slot;
use super::app::members::Admission;
use super::app::view::{AppView, Tried};
use super::assign::{Assignment, Cause, Patience, Request, Waiting, assign, moved};
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

/// Explains a request for `host` and `path` that shows `cookies` (a `Cookie` header, or a bare value), at
/// `now` (Unix seconds).
pub fn explain(
    snapshot: &Snapshot,
    host: &str,
    path: &str,
    cookies: &str,
    now: u64,
    rng: &mut impl Rng,
) -> Explained {
    let mut steps = Vec::new();
    let mut step = |what, found: String| steps.push(Step { what, found });
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
    let presented = match &view.app.affinity {
        Some(affinity) => {
            for found in values(view, affinity, cookies, now) {
                step("cookie", found);
            }
            let (presented, adopted) = view.app.presented(&header(affinity, cookies), now, rng);
            match adopted {
                Some(adopted) => step("foreign cookie", led(view, adopted)),
                None if view.app.foreign.is_empty() => {}
                None => step("foreign cookie", not_led(view, &presented)),
            }
            presented
        }
        None => {
            step("affinity", "off: every request goes to any backend".into());
            Presented::Nothing
        }
    };
    if let Presented::Pin(pin) = &presented
        && let Some(slot) = view.app.find(pin.token.backend)
    {
        let (backend, reason) = (view.app.backend(slot), view.reason(slot));
        step("home", format!("{} at {}: {}", backend.id, backend.address, reason));
    }
    let in_session = match &view.app.affinity {
        Some(affinity) if presented == Presented::Nothing => {
            let open = affinity.policy.start_on.is_open(&header(affinity, cookies));
            if let Some(found) = begins(affinity, open) {
                step("start", found);
            }
            open
        }
        Some(_) | None => false,
    };
    let request = Request {
        presented: &presented,
        tried: &Tried::NONE,
        patience: Patience::Waits,
        now,
        place: None,
        is_safe: true,
        in_session,
    };
    let assignment = assign(view, &request, rng);
    step("decision", decision(view, &assignment));
    if let Some(told) = moved::from(view, &presented, &assignment) {
        step("told", format!("its new backend gets `X-Homing-Moved-From: {told}`"));
    }
    let by_chance =
        matches!(assignment, Assignment::Make(_) | Assignment::Move(..) | Assignment::Spread(_));
    let backend = assignment.slot().filter(|_| !by_chance);
    Explained {
        outcome: Some(assignment.outcome().as_str()),
        cause: assignment.cause().map(Cause::as_str),
        backend: backend.map(|slot| view.app.backend(slot).id.to_string()),
        steps,
    }
}

/// The cookies as a request shows them; a bare value gets the name of ours.
fn header(affinity: &Affinity, cookies: &str) -> HeaderMap {
    let text = cookies.trim().trim_start_matches("Cookie:").trim();
    let name = affinity.cookie_name();
    let bare = !text.is_empty() && affinity.values(text.as_bytes()).next().is_none();
    let text = if bare && !text.contains('=') { format!("{name}={text}") } else { text.to_owned() };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(COOKIE, value);
    }
    headers
}

/// What each value of our cookie says.
fn values(view: &AppView, affinity: &Affinity, cookies: &str, now: u64) -> Vec<String> {
    let headers = header(affinity, cookies);
    let lines = headers.get_all(COOKIE).iter();
    let values = lines.flat_map(|line| affinity.values(line.as_bytes()));
    let mut told: Vec<String> =
        values.take(VALUES_MAX).map(|value| said(view, affinity, value, now)).collect();
    if told.is_empty() {
        let names: Vec<String> = affinity.cookie_names().map(|name| format!("`{name}`")).collect();
        told.push(format!("none of the name {}", names.join(" or ")));
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

/// Which foreign cookie leads where.
fn led(view: &AppView, adopted: Adopted) -> String {
    let name = view.app.foreign.named(adopted).unwrap_or_default();
    let id = &view.app.backend(adopted.slot).id;
    format!("`{name}` leads to {id}: the client gets our cookie for it")
}

/// Why none of them counts.
fn not_led(view: &AppView, presented: &Presented) -> String {
    if !Foreign::is_asked(presented) {
        return "not asked: the client is known by ours, or was".into();
    }
    let names = view.app.foreign.names().map(|(name, format)| format!("`{name}` ({format})"));
    format!("none that leads to a backend: {}", names.collect::<Vec<_>>().join(", "))
}

/// Whether the pin of a client begins that shows nothing, where that is not with its first request; `open`: it
/// shows a session.
fn begins(affinity: &Affinity, open: bool) -> Option<String> {
    match &affinity.policy.start_on {
        StartOn::Cookies(_) if open => Some("at once: it shows a session of the app".into()),
        StartOn::Cookies(names) => {
            Some(format!("not before the app sets {} or says `start`", names.join(" or ")))
        }
        StartOn::FirstRequest => None,
        StartOn::Signal => Some("not before the app says `start`".into()),
    }
}

fn decision(view: &AppView, assignment: &Assignment) -> String {
    let id = |slot| view.app.backend(slot).id.to_string();
    let cause = assignment.cause().map_or("no pin", Cause::as_str);
    match assignment {
        Assignment::Borrow(slot, _) => {
            format!("{} stands in, and the pin stays: {cause}", id(*slot))
        }
        Assignment::Follow(slot, _) => format!("to {}, where the pin leads", id(*slot)),
        Assignment::FollowOrMove(slot, _) => may_move(view, *slot),
        Assignment::Make(_) => format!("a first visit: one of {} is drawn", shares(view)),
        Assignment::Move(..) => {
            format!("the pin is moved, {cause}: one of {} is drawn", shares(view))
        }
        Assignment::Refuse(_) => format!("refused: {cause}"),
        Assignment::Spread(_) => format!("one of {} is drawn", shares(view)),
        Assignment::Wait(Waiting::Home(_)) => format!("waits for its backend: {cause}"),
        Assignment::Wait(Waiting::Opening(closed, _)) => {
            format!("waits for a backend to open: {}", Admission::Closed(*closed).reason())
        }
        Assignment::Wait(Waiting::Turn(slot, _)) => {
            format!("waits for its turn at {}, which starts slowly", id(*slot))
        }
    }
}

/// What becomes of a client that was idle for long enough.
fn may_move(view: &AppView, home: Slot) -> String {
    let id = &view.app.backend(home).id;
    match view.plan() {
        Some(plan) if plan.gives(home) => format!(
            "to {id}, where the pin leads, or to a backend with fewer clients: {id} has too many, and this one \
             was idle for long enough"
        ),
        Some(_) | None => format!("to {id}, where the pin leads"),
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
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::affinity::cookie::Scheme;
    use crate::balancer::affinity::foreign::{ForeignCookie, Format};
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::name::BackendId;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing;

    #[track_caller]
    fn check(backends: &str, host: &str, cookies: &str, expected: &str) {
        let snapshot = testing::balancer(OnUnavailable::Borrow, backends).snapshot();
        check_in(&snapshot, host, cookies, expected);
    }

    #[track_caller]
    fn check_in(snapshot: &Snapshot, host: &str, cookies: &str, expected: &str) {
        let mut rng = SmallRng::seed_from_u64(1);
        let told = explain(snapshot, host, "/", cookies, 1, &mut rng);
        let steps: Vec<String> =
            told.steps.iter().map(|step| format!("{}: {}", step.what, step.found)).collect();
        assert_eq!(steps.join("\n"), expected);
    }

    #[track_caller]
    fn check_of(balancer: &Balancer, cookies: &str, expected: &str) {
        check_in(&balancer.snapshot(), "shop.example.com", cookies, expected);
    }

    #[test]
    fn where_pins_begin_with_a_session_it_is_told_whether_there_is_one() {
        let mut spec = testing::spec(&["a"]);
        let sessions = StartOn::Cookies(["JSESSIONID".into(), "sid".into()].into());
        spec.apps[0].affinity.as_mut().unwrap().start_on = sessions;
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        balancer.apply(testing::probed("a", ProbeOutcome::Passed), Duration::ZERO);
        let head = "app: shop, 1 of 1 backends open\ncookie: none of the name `homing-affinity`";
        let before = format!(
            "{head}\nstart: not before the app sets JSESSIONID or sid or says `start`\n\
             decision: one of a (100 %) is drawn"
        );
        check_of(&balancer, "other=1", &before);
        let open = format!(
            "{head}\nstart: at once: it shows a session of the app\n\
             decision: a first visit: one of a (100 %) is drawn"
        );
        check_of(&balancer, "sid=7", &open);
    }

    #[test]
    fn a_backend_that_asked_to_be_drained_is_told_as_that() {
        let mut balancer = testing::balancer(OnUnavailable::Move, "a b");
        balancer.apply(testing::asked_to_drain("b"), Duration::ZERO);
        let mut rng = SmallRng::seed_from_u64(1);
        let told =
            explain(&balancer.snapshot(), "shop.example.com", "/", &pinned("b"), 1, &mut rng);
        assert_eq!(told.steps[2].found, "b at 127.0.0.1:1: drain (asked by the app)");
    }

    /// A cookie for the backend `id`.
    fn pinned(id: &str) -> String {
        let snapshot = testing::balancer(OnUnavailable::Borrow, "a b").snapshot();
        let affinity = snapshot.apps[0].app.affinity.as_ref().unwrap();
        let token = testing::pin(id).token;
        let cookie = affinity.set_cookies(&token, Scheme::Http, 1).next().unwrap();
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
    fn a_foreign_cookie_is_told_where_it_leads_or_why_it_counts_for_nothing() {
        let mut spec = testing::spec(&["a", "b"]);
        spec.apps[0].affinity.as_mut().unwrap().adopt = Arc::new([ForeignCookie {
            cookie: "SERVERID".into(),
            format: Format::Map,
            values: [("s2".into(), BackendId::parse("b").unwrap())].into(),
            addresses: BTreeMap::default(),
        }]);
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        for id in ["a", "b"] {
            balancer.apply(testing::probed(id, ProbeOutcome::Passed), Duration::ZERO);
        }
        let snapshot = balancer.snapshot();
        let check = |cookies: &str, expected: &str| {
            check_in(&snapshot, "shop.example.com", cookies, expected);
        };
        check(
            "a=1; SERVERID=s2",
            "app: shop, 2 of 2 backends open\ncookie: none of the name `homing-affinity`\n\
             foreign cookie: `SERVERID` leads to b: the client gets our cookie for it\n\
             home: b at 127.0.0.1:1: healthy\ndecision: to b, where the pin leads",
        );
        check(
            "SERVERID=s3",
            "app: shop, 2 of 2 backends open\ncookie: none of the name `homing-affinity`\n\
             foreign cookie: none that leads to a backend: `SERVERID` (map)\n\
             decision: a first visit: one of a (50 %), b (50 %) is drawn",
        );
        let key = testing::keyring().keys()[0].id();
        check(
            &format!("SERVERID=s2; {}", pinned("a")),
            &format!(
                "app: shop, 2 of 2 backends open\n\
                 cookie: ours: a, renewed 0 s ago, key {key} (the newest)\n\
                 foreign cookie: not asked: the client is known by ours, or was\n\
                 home: a at 127.0.0.1:1: healthy\ndecision: to a, where the pin leads"
            ),
        );
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
        let moved = format!(
            "app: shop, 1 of 2 backends open\ncookie: {ours}\nhome: b at 127.0.0.1:1: maintenance\n\
             decision: the pin is moved, maintenance: one of a (100 %) is drawn\n\
             told: its new backend gets `X-Homing-Moved-From: b; cause=maintenance`"
        );
        check_of(&testing::balancer(OnUnavailable::Move, "a b-"), &pinned("b"), &moved);
        let bad = "app: shop, 1 of 1 backends open\ncookie: not to be honoured: malformed\n\
                   decision: the pin is moved, malformed: one of a (100 %) is drawn";
        check("a", "shop.example.com", "homing-affinity=x", bad);
    }
}
