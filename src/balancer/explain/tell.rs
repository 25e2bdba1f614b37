//! What was found and decided, in words.

use http::HeaderMap;
use http::header::COOKIE;

use crate::balancer::affinity::foreign::{Adopted, Foreign};
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::way::{Found, Shown, Way};
use crate::balancer::affinity::{Affinity, Pin, Presented};
use crate::balancer::app::backend::Slot;
use crate::balancer::app::limits::RateLimit;
use crate::balancer::app::live::AppCounters;
use crate::balancer::app::members::Admission;
use crate::balancer::app::panic::Then;
use crate::balancer::app::policy::Policy;
use crate::balancer::app::view::AppView;
use crate::balancer::assign::{Assignment, Cause, Refusal, Request, Waiting, had_stand_in};
use crate::balancer::change::settings;

/// Most values of cookies that are told of.
const VALUES_MAX: usize = 16;

/// Most backends that are told of one by one.
const CLOSED_TOLD_MAX: usize = 16;

/// Tells what was found in each way to know the client, up to the one that decides.
pub(super) fn ways(
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

/// Tells in what state the app is, where that is not the usual one.
pub(super) fn state(view: &AppView, step: &mut impl FnMut(&'static str, String)) {
    if let Some(then) = view.panic {
        step("panic", panic(then).into());
    }
    if let Some(ejected) = ejected(view) {
        step("ejected", ejected);
    }
    if view.maintenance {
        step("maintenance", "the operator took the app out of service".into());
    }
}

/// Tells what no request meets that is explained, but a real one may.
pub(super) fn limits(policy: &Policy, step: &mut impl FnMut(&'static str, String)) {
    if let Some(limit) = policy.rate_limit {
        let RateLimit { requests, per, burst } = limit;
        let per = settings::shown(per);
        let found = format!(
            "an address may ask {requests} times in {per}, {burst} at once: beyond, it gets 429 (N29)"
        );
        step("rate_limit", found);
    }
    if let Some(most) = policy.limits.max_body {
        step("max_body", format!("a body of more than {most} bytes gets 413 (N43)"));
    }
}

/// What the app does while most of its backends are unhealthy.
fn panic(then: Then) -> &'static str {
    match then {
        Then::Refuse => "most backends are unhealthy: the healthy ones take no new clients",
        Then::Spread => {
            "most backends are unhealthy, which is not believed: all of them take clients"
        }
    }
}

/// Who is ejected; `None`: nobody.
fn ejected(view: &AppView) -> Option<String> {
    let ejected = view.admissions().filter(|(slot, _)| view.is_ejected(*slot));
    let told: Vec<String> = ejected
        .map(|(slot, _)| format!("{}: {}", view.app.backend(slot).id, view.reason(slot)))
        .collect();
    (!told.is_empty()).then(|| format!("since requests failed, {}", told.join(", ")))
}

pub(super) fn decision(view: &AppView, request: &Request<'_>, assignment: &Assignment) -> String {
    let id = |slot| view.app.backend(slot).id.to_string();
    let cause = assignment.cause().map_or("no pin", Cause::as_str);
    let by_key = matches!(request.presented, Presented::Key(_));
    let to_stand_in = matches!(request.presented, Presented::Pin(pin) if had_stand_in(view, pin));
    let drawn = |slot: Slot| match (by_key, request.place) {
        _ if to_stand_in => format!("to {}, its stand-in", id(slot)),
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
        Assignment::FollowOrMove(slot, _) => may_move(view, *slot),
        Assignment::Make(slot) => format!("a first visit: {}", drawn(*slot)),
        Assignment::Move(slot, _) if by_key => format!("moved, {cause}: {}", drawn(*slot)),
        Assignment::Move(slot, _) => format!("the pin is moved, {cause}: {}", drawn(*slot)),
        Assignment::Refuse(Refusal::NoneOpen(_)) => format!("refused: {}", none_open(view)),
        Assignment::Refuse(_) => format!("refused: {cause}"),
        Assignment::Spread(slot) => drawn(*slot),
        Assignment::Wait(Waiting::Home(_)) => format!("waits for its backend: {cause}"),
        Assignment::Wait(Waiting::Opening(closed, _)) => {
            format!("waits for a backend to open: {}", Admission::Closed(*closed).reason())
        }
        Assignment::Wait(Waiting::Place(slot, _)) => {
            format!("waits for a place at {}, which has as much in flight as it may", id(*slot))
        }
        Assignment::Wait(Waiting::Turn(slot, _)) => {
            format!("waits for its turn at {}, which starts slowly", id(*slot))
        }
    }
}

/// Why no backend takes clients: what each of them is.
fn none_open(view: &AppView) -> String {
    let why = |slot| format!("{}: {}", view.app.backend(slot).id, view.reason(slot));
    let closed = view.admissions().map(|(slot, _)| why(slot));
    let mut closed: Vec<String> = closed.take(CLOSED_TOLD_MAX).collect();
    let more = view.app.backends.len() - closed.len();
    if more > 0 {
        closed.push(format!("and {more} more"));
    }
    format!("no backend takes clients ({})", closed.join(", "))
}

/// What becomes of a client that was idle for long enough.
fn may_move(view: &AppView, home: Slot) -> String {
    let id = &view.app.backend(home).id;
    match view.plan() {
        Some(plan) if plan.gives(home) => format!(
            "to {id}, where the pin leads; or to a backend with fewer clients, if the moment is safe: {id} has too \
             many, and by its cookie this one was idle, or the app lets it go"
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

/// Which foreign cookie leads where.
pub(super) fn led(view: &AppView, adopted: Adopted) -> String {
    let name = view.app.foreign.named(adopted).unwrap_or_default();
    let id = &view.app.backend(adopted.slot).id;
    format!("`{name}` leads to {id}: the client gets our cookie for it")
}

/// Why none of them counts.
pub(super) fn not_led(view: &AppView, presented: &Presented) -> String {
    if !Foreign::is_asked(presented) {
        return "not asked: the client is known by ours, or was".into();
    }
    let names = view.app.foreign.names().map(|(name, format)| format!("`{name}` ({format})"));
    format!("none that leads to a backend: {}", names.collect::<Vec<_>>().join(", "))
}

/// Whether the pin of a client begins that shows nothing, where that is not with its first request; `open`: it
/// shows a session.
pub(super) fn begins(affinity: &Affinity, open: bool) -> Option<String> {
    match &affinity.policy.start_on {
        StartOn::Cookies(_) if open => Some("at once: it shows a session of the app".into()),
        StartOn::Cookies(names) => {
            Some(format!("not before the app sets {} or says `start`", names.join(" or ")))
        }
        StartOn::FirstRequest => None,
        StartOn::Signal => Some("not before the app says `start`".into()),
    }
}

/// What is known of the home of who presents this; `None`: it has none.
pub(super) fn home(
    view: &AppView,
    affinity: &Affinity,
    presented: &Presented,
    now: u64,
) -> Option<String> {
    match presented {
        Presented::Key(key) => view.home_of(key).map(|slot| stands(view, slot)),
        Presented::Pin(pin) => Some(home_of_pin(view, affinity, pin, now)),
        Presented::Nothing | Presented::Unusable(_) => None,
    }
}

fn home_of_pin(view: &AppView, affinity: &Affinity, pin: &Pin, now: u64) -> String {
    let (departed, limit) = (&view.app.departed, affinity.policy.borrow_limit);
    let age = now.saturating_sub(u64::from(pin.token.issued));
    let Some(slot) = view.app.find(pin.token.backend) else {
        let place = match departed.may_come(&pin.token, limit, now) {
            true => "may be on a newer list of another edge",
            false => "left the list, or comes too late",
        };
        return format!("not on the list; pinned {age} s ago: {place}");
    };
    let run = match view.app.backend(slot).incarnation_hash == pin.token.incarnation {
        true => "",
        false if departed.may_come_anew(&pin.token, limit, now) => {
            "; the pin is of a run that may be on a newer list of another edge"
        }
        false => "; the pin is of an earlier run",
    };
    format!("{}{run}", stands(view, slot))
}

/// How a backend stands.
fn stands(view: &AppView, slot: Slot) -> String {
    let backend = view.app.backend(slot);
    format!("{} at {}: {}", backend.id, backend.address, view.reason(slot))
}

/// How much the app has in flight, where that may matter, and the home of the client, where that is limited.
pub(super) fn load(view: &AppView, home: Option<Slot>) -> Option<String> {
    let limits = &view.app.policy.limits;
    let of = |count: u64, limit: u64| format!("{count} of {limit} requests in flight");
    let busy =
        |counters: &AppCounters| counters.in_flight.read().saturating_sub(counters.streams.read());
    let app = limits.in_flight_of(view.app.backends.len()).and_then(|limit| {
        let count = view.app.live.seen().map_or(0, busy);
        (count >= limits.unreserved(limit)).then(|| of(count, limit))
    });
    let backend = limits.backend_in_flight.zip(home).map(|(limit, slot)| {
        let backend = view.app.backend(slot);
        let busy = backend.live.in_flight.read().saturating_sub(backend.live.streams.read());
        format!("{}: {}, {} wait", backend.id, of(busy, limit), backend.live.queue.len())
    });
    let all: Vec<String> = app.into_iter().chain(backend).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// The home of who presents this, if it is on the list.
pub(super) fn slot_of_home(view: &AppView, presented: &Presented) -> Option<Slot> {
    match presented {
        Presented::Key(key) => view.home_of(key),
        Presented::Pin(pin) => view.app.find(pin.token.backend),
        Presented::Nothing | Presented::Unusable(_) => None,
    }
}
