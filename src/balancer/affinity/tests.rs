//! Which of several ways to know a client decides, by a table.

use std::collections::BTreeMap;

use http::header::{COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Uri};
use rand::SeedableRng;

use super::way::SessionCookie;
use super::*;
use crate::balancer::name::BackendId;
use crate::balancer::testing;

fn ways(list: &str) -> Box<[Way]> {
    let way = |word: &str| match word {
        "address" => Way::Address,
        "cookie" => Way::Cookie,
        "header" => Way::Header(HeaderName::from_static("x-session-id")),
        "query" => Way::Query("sid".into()),
        "session" => {
            let route = ("old".into(), BackendId::parse("gone").unwrap());
            let routes = BTreeMap::from([route]);
            Way::SessionCookie(SessionCookie { name: "S".into(), routes })
        }
        other => panic!("no such way: {other}"),
    };
    list.split_whitespace().map(way).collect()
}

fn affinity(list: &str, first_visit: FirstVisit) -> Affinity {
    let policy = testing::affinity(OnUnavailable::Move);
    let policy = AffinityPolicy { identify_by: ways(list), first_visit, ..policy };
    Affinity::new(policy, &AppName::parse("shop").unwrap(), &testing::keyring())
}

/// The headers of a request that shows these: `ours` our cookie, `bad` one that is none, `h` a header, `s` a session
/// of the backend `a`, `s-` one of a backend that left, `s?` one of nobody.
fn headers(affinity: &Affinity, shown: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for word in shown.split_whitespace() {
        let line = match word {
            "ours" => {
                affinity.set_cookies(&testing::pin("a").token, Scheme::Http, 1).next().unwrap()
            }
            "bad" => "homing-affinity=x".into(),
            "s" => "S=1.a".into(),
            "s-" => "S=1.old".into(),
            "s?" => "S=1.x".into(),
            "h" => {
                headers.insert("x-session-id", HeaderValue::from_static("1"));
                continue;
            }
            "q" => continue,
            other => panic!("nothing shows {other}"),
        };
        let pair = line.split(';').next().unwrap();
        headers.append(COOKIE, HeaderValue::from_str(pair).unwrap());
    }
    headers
}

/// `expected`: `nothing`, `pin`, `unusable CAUSE`, or what the client is known by, followed by the cause its cookie or
/// session was not honoured for and by `+` when it gets our cookie.
#[track_caller]
fn check(list: &str, shown: &str, expected: &str) {
    let affinity = affinity(list, FirstVisit::Random);
    let headers = headers(&affinity, shown);
    let uri = Uri::from_static(if shown.contains('q') { "/?sid=2" } else { "/" });
    let address = Some([192, 0, 2, 1].into());
    let shown_to_us = Shown { headers: &headers, uri: &uri, address, memo: None };
    let listed = |hash| hash == testing::hash("a");
    let presented = affinity.identify(&shown_to_us, listed, 1);
    let place_of = |list: &str| match ways(list)[0].look(&shown_to_us, listed) {
        Found::Gone(place) | Found::Home(place, _) | Found::Place(place) => Some(place),
        Found::Absent => None,
    };
    let told = match presented {
        Presented::Nothing => "nothing".to_owned(),
        Presented::Pin(_) => "pin".to_owned(),
        Presented::Unusable(cause) => format!("unusable {}", cause.as_str()),
        Presented::Key(key) => {
            let kinds = ["header", "query", "session", "address"];
            let kind = kinds.into_iter().find(|kind| place_of(kind) == Some(key.place)).unwrap();
            assert_eq!(key.home.is_some(), kind == "session" && !shown.contains("s-"), "{list}");
            let lost = key.lost.map_or(String::new(), |cause| format!(" {}", cause.as_str()));
            let cookie = if key.cookie == HandOut::Yes { " +" } else { "" };
            format!("{kind}{lost}{cookie}")
        }
    };
    assert_eq!(told, expected, "[{list}], {shown}");
}

#[test]
fn the_first_way_of_the_list_that_is_shown_decides() {
    check("cookie header query", "ours h q", "pin");
    check("header cookie query", "ours h q", "header");
    check("query header cookie", "ours h q", "query");
    check("cookie header query", "q", "query +");
    check("cookie header query", "", "nothing");
    check("cookie", "h q", "nothing");
    check("session address", "s", "session");
    check("session address", "s?", "address");
    check("session address", "", "address");
}

#[test]
fn who_is_known_by_what_stands_behind_our_cookie_gets_it_as_well() {
    check("cookie header", "h", "header +");
    check("cookie session", "s", "session +");
    check("header cookie address", "", "address +");
    check("header cookie", "h", "header");
    check("header cookie", "h bad", "header");
    check("header", "h ours", "header");
    check("header", "ours", "nothing");
}

#[test]
fn a_cookie_that_is_not_honoured_is_told_with_what_else_the_client_is_known_by() {
    check("cookie header", "bad h", "header malformed +");
    check("cookie header", "bad", "unusable malformed");
    check("header cookie address", "bad", "address malformed +");
}

#[test]
fn a_session_of_a_backend_that_left_is_lost_unless_something_else_is_shown() {
    check("session", "s-", "session removed");
    check("session cookie", "s-", "session removed +");
    check("cookie session", "s-", "session removed +");
    check("cookie session", "bad s-", "session malformed +");
    check("session cookie", "s- ours", "pin");
    check("session header", "s- h", "header");
    check("session address", "s-", "address");
    check("session", "s?", "nothing");
}

#[test]
fn a_first_visit_has_a_place_only_where_the_app_asks_for_it() {
    let uri = Uri::from_static("/");
    let ten_seconds = FirstVisit::ByClient(Duration::from_secs(10));
    for (first_visit, shown, has) in [
        (FirstVisit::Random, "", false),
        (ten_seconds, "", true),
        (ten_seconds, "bad", true),
        (ten_seconds, "ours", false),
        (ten_seconds, "h", false),
    ] {
        let affinity = affinity("cookie header", first_visit);
        let headers = headers(&affinity, shown);
        let shown = Shown { headers: &headers, uri: &uri, address: None, memo: None };
        let presented = affinity.identify(&shown, |_| true, 1);
        assert_eq!(affinity.place(&presented, &shown, 1).is_some(), has, "{presented:?}");
    }
}

#[test]
fn clients_that_are_known_by_the_same_get_cookies_of_their_own() {
    let affinity = affinity("cookie header", FirstVisit::Random);
    let backend = Backend::new(testing::backend("a"), Arc::default());
    let key = Key { place: u64::MAX, home: None, lost: None, cookie: HandOut::Yes };
    let pin = affinity.keyed(&backend, &key, 1);
    assert_eq!(pin.renewal, Renewal::Due);
    let mut rng = rand::rngs::SmallRng::from_seed([1; 32]);
    let mut token = || affinity.token(&backend, &Presented::Key(key), 1, &mut rng);
    let (one, other) = (token(), token());
    assert_eq!((one.backend, other.backend), (pin.token.backend, pin.token.backend));
    assert_ne!(one.client, other.client);
    assert_ne!(one.client, pin.token.client);
}
