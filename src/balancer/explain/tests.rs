//! What is told of requests, by examples.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balancer::affinity::OnUnavailable;
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::affinity::first_visit::FirstVisit;
use crate::balancer::affinity::foreign::{ForeignCookie, Format};
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::way::Way;
use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::app::limits::RateLimit;
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
    let uri = &Uri::from_static("/");
    let asked = Asked { host, uri, cookies, headers: HeaderMap::new(), address: None };
    assert_eq!(told(snapshot, &asked), expected);
}

fn told(snapshot: &Snapshot, asked: &Asked<'_>) -> String {
    told_under(snapshot, asked, Pressure::None)
}

fn told_under(snapshot: &Snapshot, asked: &Asked<'_>, pressure: Pressure) -> String {
    let told = explain(snapshot, asked, pressure, 1, &mut SmallRng::seed_from_u64(1));
    let step = |step: &Step| format!("{}: {}", step.what, step.found);
    told.steps.iter().map(step).collect::<Vec<_>>().join("\n")
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
    let (uri, pinned) = (Uri::from_static("/"), pinned("b"));
    let (host, headers) = ("shop.example.com", HeaderMap::new());
    let asked = Asked { host, uri: &uri, cookies: &pinned, headers, address: None };
    let told = told(&balancer.snapshot(), &asked);
    assert!(told.contains("\nhome: b at 127.0.0.1:1: drain (asked by the app)\n"), "{told}");
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
    check(
        "a b",
        "nobody.example",
        "",
        "app: none serves `nobody.example/`: the request fails with N04",
    );
}

#[test]
fn who_is_refused_is_told_what_each_backend_is() {
    let expected = "app: shop, 0 of 2 backends open\ncookie: none of the name `homing-affinity`\n\
                    decision: refused: no backend takes clients (a: drain, c: unhealthy)";
    check("a? c!", "shop.example.com", "", expected);
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
    let backends: Vec<_> = (0..4)
        .map(|_| explain(&snapshot, &asked, Pressure::None, 1, &mut rng).backend.unwrap())
        .collect();
    assert!(backends.iter().all(|id| *id == backends[0]), "{backends:?}");
    let end = format!(
        "decision: a first visit: {} is drawn, for all of this client at this time",
        backends[0]
    );
    let told = told(&snapshot, &asked);
    assert!(told.ends_with(&end), "{told}");
}

#[test]
fn a_pin_to_a_backend_that_is_not_on_the_list_is_told_as_lent_or_moved() {
    let snapshot = testing::balancer(OnUnavailable::Move, "a b").snapshot();
    let told = |now: u64, id| {
        let mut token = testing::pin(id).token;
        (token.issued, token.renewed) = (u32::try_from(testing::TAKEN).unwrap(), u32::MAX);
        let affinity = snapshot.apps[0].app.affinity.as_ref().unwrap();
        let cookie = affinity.set_cookies(&token, Scheme::Http, 1).next().unwrap();
        let (uri, headers) = (Uri::from_static("/"), HeaderMap::new());
        let (host, cookies) = ("shop.example.com", cookie.split(';').next().unwrap());
        let asked = Asked { host, uri: &uri, cookies, headers, address: None };
        let told = explain(&snapshot, &asked, Pressure::None, now, &mut SmallRng::seed_from_u64(1));
        let last =
            told.steps.iter().skip(2).take(2).map(|step| step.found.clone()).collect::<Vec<_>>();
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
fn what_turns_requests_away_is_told_before_it_does() {
    let mut spec = testing::spec(&["a"]);
    let policy = Arc::make_mut(&mut spec.apps[0].policy);
    policy.rate_limit = Some(RateLimit {
        requests: NonZeroU32::new(10).unwrap(),
        per: Duration::from_secs(60),
        burst: NonZeroU32::new(20).unwrap(),
    });
    policy.limits.max_body = Some(1024);
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    balancer.apply(testing::probed("a", ProbeOutcome::Passed), Duration::ZERO);
    let head = "app: shop, 1 of 1 backends open\n\
        rate_limit: an address may ask 10 times in 1m, 20 at once: beyond, it gets 429 (N29)\n\
        max_body: a body of more than 1024 bytes gets 413 (N43)\n\
        cookie: none of the name `homing-affinity`\n";
    check_of(&balancer, "", &format!("{head}decision: a first visit: one of a (100 %) is drawn"));
    let uri = &Uri::from_static("/");
    let (host, headers) = ("shop.example.com", HeaderMap::new());
    let asked = Asked { host, uri, cookies: "", headers, address: None };
    let told = told_under(&balancer.snapshot(), &asked, Pressure::High);
    let pressure =
        "pressure: little is left of connections or memory: nobody is let in without a pin";
    assert_eq!(told, format!("{head}{pressure}\ndecision: refused: overloaded"));
}
