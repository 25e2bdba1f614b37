//! What would happen to a request now, and why, step by step: the same decision as for a real one.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use rand::Rng;
use serde::Serialize;

use super::affinity::{Affinity, Pin, Presented, cookie};
use super::app::members::Admission;
use super::app::view::{AppView, Tried};
use super::assign::{Assignment, Cause, Patience, Request, Waiting, assign, had_stand_in};
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
            affinity.read(&header(affinity, cookies), now)
        }
        None => {
            step("affinity", "off: every request goes to any backend".into());
            Presented::Nothing
        }
    };
    if let (Some(affinity), Presented::Pin(pin)) = (&view.app.affinity, &presented) {
        step("home", home(view, affinity, pin, now));
    }
    let request = Request {
        presented: &presented,
        tried: &Tried::NONE,
        patience: Patience::Waits,
        now,
        place: None,
        is_safe: true,
    };
    let assignment = assign(view, &request, rng);
    step("decision", decision(view, &presented, &assignment));
    let backend = assignment.slot().filter(|_| !is_drawn(view, &presented, &assignment));
    Explained {
        outcome: Some(assignment.outcome().as_str()),
        cause: assignment.cause().map(Cause::as_str),
        backend: backend.map(|slot| view.app.backend(slot).id.to_string()),
        steps,
    }
}

/// What is known of the backend that a pin leads to.
fn home(view: &AppView, affinity: &Affinity, pin: &Pin, now: u64) -> String {
    let (departed, limit) = (&view.app.departed, affinity.policy.borrow_limit);
    let age = now.saturating_sub(u64::from(pin.token.issued));
    let Some(slot) = view.app.find(pin.token.backend) else {
        let place = match departed.may_come(&pin.token, limit, now) {
            true => "may be on a newer list of another edge",
            false => "left the list, or comes too late",
        };
        return format!("not on the list; pinned {age} s ago: {place}");
    };
    let (backend, admission) = (view.app.backend(slot), view.admission(slot));
    let mut said = format!("{} at {}: {}", backend.id, backend.address, admission.reason());
    if backend.incarnation_hash != pin.token.incarnation {
        said += match departed.may_come_anew(&pin.token, limit, now) {
            true => "; the pin is of a run that may be on a newer list of another edge",
            false => "; the pin is of an earlier run",
        };
    }
    said
}

/// Whether the backend was left to chance.
fn is_drawn(view: &AppView, presented: &Presented, assignment: &Assignment) -> bool {
    match (assignment, presented) {
        (Assignment::Move(..), Presented::Pin(pin)) => !had_stand_in(view, pin),
        (Assignment::Make(_) | Assignment::Move(..) | Assignment::Spread(_), _) => true,
        (
            Assignment::Borrow(..)
            | Assignment::Follow(..)
            | Assignment::Refuse(_)
            | Assignment::Wait(_),
            _,
        ) => false,
    }
}

/// The cookies as a request shows them; a bare value gets the name of ours.
fn header(affinity: &Affinity, cookies: &str) -> HeaderMap {
    let text = cookies.trim().trim_start_matches("Cookie:").trim();
    let name = affinity.cookie_name();
    let bare = !text.is_empty() && cookie::values(text.as_bytes(), name).next().is_none();
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

fn decision(view: &AppView, presented: &Presented, assignment: &Assignment) -> String {
    let id = |slot| view.app.backend(slot).id.to_string();
    let cause = assignment.cause().map_or("no pin", Cause::as_str);
    match assignment {
        Assignment::Borrow(slot, _) => {
            format!("{} stands in, and the pin stays: {cause}", id(*slot))
        }
        Assignment::Follow(slot, _) => format!("to {}, where the pin leads", id(*slot)),
        Assignment::Make(_) => format!("a first visit: one of {} is drawn", shares(view)),
        Assignment::Move(slot, _) if !is_drawn(view, presented, assignment) => {
            format!("the pin is moved, {cause}: to {}, its stand-in", id(*slot))
        }
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

    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::affinity::cookie::Scheme;
    use crate::balancer::testing;

    #[track_caller]
    fn check(backends: &str, host: &str, cookies: &str, expected: &str) {
        let snapshot = testing::balancer(OnUnavailable::Borrow, backends).snapshot();
        let mut rng = SmallRng::seed_from_u64(1);
        let told = explain(&snapshot, host, "/", cookies, 1, &mut rng);
        let steps: Vec<String> =
            told.steps.iter().map(|step| format!("{}: {}", step.what, step.found)).collect();
        assert_eq!(steps.join("\n"), expected);
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
    fn a_pin_to_a_backend_that_is_not_on_the_list_is_told_as_lent_or_moved() {
        let snapshot = testing::balancer(OnUnavailable::Move, "a b").snapshot();
        let told = |now: u64, id| {
            let mut token = testing::pin(id).token;
            (token.issued, token.renewed) = (u32::try_from(testing::TAKEN).unwrap(), u32::MAX);
            let affinity = snapshot.apps[0].app.affinity.as_ref().unwrap();
            let cookie = affinity.set_cookie(&token, Scheme::Http, 1);
            let cookie = cookie.split(';').next().unwrap();
            let mut rng = SmallRng::seed_from_u64(1);
            let told = explain(&snapshot, "shop.example.com", "/", cookie, now, &mut rng);
            let last = told.steps.iter().skip(2).map(|step| step.found.clone()).collect::<Vec<_>>();
            (told.outcome.unwrap(), told.backend, last.join(" | "))
        };
        let lent = "not on the list; pinned 660 s ago: may be on a newer list of another edge | b stands in, \
                    and the pin stays: removed";
        assert_eq!(told(testing::TAKEN + 660, "z"), ("borrowed", Some("b".into()), lent.into()));
        let moved = "not on the list; pinned 661 s ago: left the list, or comes too late | the pin is moved, \
                     removed: to b, its stand-in";
        assert_eq!(told(testing::TAKEN + 661, "z"), ("moved", Some("b".into()), moved.into()));
        let other = "b at 127.0.0.1:1: healthy; the pin is of a run that may be on a newer list of another \
                     edge | to b, where the pin leads";
        assert_eq!(told(testing::TAKEN + 660, "b'"), ("followed", Some("b".into()), other.into()));
        let earlier = "b at 127.0.0.1:1: healthy; the pin is of an earlier run | the pin is moved, \
                       new_incarnation: one of a (50 %), b (50 %) is drawn";
        assert_eq!(told(testing::TAKEN + 661, "b'"), ("moved", None, earlier.into()));
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
}
