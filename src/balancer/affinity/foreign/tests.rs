//! Values that other load balancers made, and what becomes of those who show them.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::affinity::way::{Shown, Way};
use crate::balancer::app::backend::Address;
use crate::balancer::app::tls::{BackendTls, Verify};
use crate::balancer::app::view::AppView;
use crate::balancer::state::{Balancer, Event};
use crate::balancer::testing;

fn id(text: &str) -> BackendId {
    BackendId::parse(text).unwrap()
}

/// Pairs such as `s1=a s2=b`; the last `=` parts them.
fn pairs(text: &str) -> BTreeMap<Box<str>, BackendId> {
    let pair = |word: &str| word.rsplit_once('=').map(|(text, of)| (text.into(), id(of)));
    text.split_whitespace().filter_map(pair).collect()
}

fn cookie(format: Format) -> ForeignCookie {
    let (values, addresses) = (BTreeMap::new(), BTreeMap::new());
    ForeignCookie { cookie: "c".into(), format, values, addresses }
}

fn valued(format: Format, values: &str) -> ForeignCookie {
    ForeignCookie { values: pairs(values), ..cookie(format) }
}

fn key(text: &str) -> Option<ForeignKey> {
    Some(ForeignKey::new(text.as_bytes()))
}

/// An app with backends such as `a=10.0.0.1:80`; with `tls`, they are asked over it.
fn view(adopt: Vec<ForeignCookie>, backends: &str, tls: Option<BackendTls>) -> Arc<AppView> {
    view_by(Box::new([Way::Cookie]), adopt, backends, tls)
}

/// The same for an app whose clients are known in these ways.
fn view_by(
    ways: Box<[Way]>,
    adopt: Vec<ForeignCookie>,
    backends: &str,
    tls: Option<BackendTls>,
) -> Arc<AppView> {
    let backends: Vec<(&str, &str)> =
        backends.split_whitespace().map(|word| word.split_once('=').unwrap()).collect();
    let ids: Vec<&str> = backends.iter().map(|(id, _)| *id).collect();
    let mut spec = testing::spec(&ids);
    for (backend, (_, address)) in spec.apps[0].backends.iter_mut().zip(&backends) {
        backend.address = match address.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(address.parse().unwrap()),
        };
    }
    let affinity = spec.apps[0].affinity.as_mut().unwrap();
    (affinity.adopt, affinity.identify_by) = (adopt.into(), ways);
    Arc::make_mut(&mut spec.apps[0].policy).tls = tls;
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    Arc::clone(&balancer.snapshot().apps[0])
}

fn shows(cookies: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookies).unwrap())])
}

/// Where a client goes that shows this, `-` if it is not known.
fn home(view: &AppView, cookies: &str) -> String {
    let adopted = view.app.foreign.find(&Presented::Nothing, &shows(cookies));
    adopted.map_or_else(|| "-".into(), |found| view.app.backend(found.slot).id.to_string())
}

#[track_caller]
fn check(one: ForeignCookie, backends: &str, value: &str, expected: &str) {
    let view = view(vec![one], backends, None);
    assert_eq!(home(&view, &format!("c={value}")), expected, "{value}");
}

const TWO: &str = "a=127.0.0.1:18101 b=127.0.0.1:18102";

/// The values are what HAProxy 2.6.12 sent.
#[test]
fn the_word_of_haproxy_is_read_with_and_without_dates() {
    let haproxy = || valued(Format::Haproxy { key: None }, "s1=a s2=b");
    for (value, expected) in [
        ("s1", "a"),
        ("s2", "b"),
        ("s2|awFlf", "b"),
        ("s1|awFlf|awFlf", "a"),
        ("s3", "-"),
        ("s", "-"),
        ("s1x", "-"),
        ("|s1", "-"),
        ("", "-"),
        ("a", "-"),
    ] {
        check(haproxy(), TWO, value, expected);
    }
    check(cookie(Format::Haproxy { key: None }), TWO, "b|awFlf", "b");
    check(cookie(Format::Haproxy { key: None }), TWO, "s1", "-");
}

/// HAProxy 2.6.12 sent these, with `dynamic-cookie-key MYKEY`.
#[test]
fn a_dynamic_cookie_of_haproxy_is_the_hash_of_key_and_address() {
    let dynamic = |word| cookie(Format::Haproxy { key: key(word) });
    let three = format!("{TWO} c=[::1]:18101 d=unix:/run/d");
    for (value, expected) in [
        ("20d1e6c669ae75a9", "a"),
        ("464ae5aeb0b624f6|awFlf", "b"),
        ("d82367c8f17fc1ae", "c"),
        ("20D1E6C669AE75A9", "-"),
        ("a", "-"),
    ] {
        check(dynamic("MYKEY"), &three, value, expected);
    }
    check(dynamic("YOURKEY"), &three, "20d1e6c669ae75a9", "-");
    let moved = ForeignCookie { addresses: pairs("127.0.0.1:18101=b"), ..dynamic("MYKEY") };
    check(moved, "a=10.0.0.1:1 b=10.0.0.2:1", "20d1e6c669ae75a9", "b");
}

/// nginx 1.31.5 sent these for `sticky cookie`.
#[test]
fn the_cookie_of_nginx_is_the_hash_of_the_address() {
    let three = format!("{TWO} c=[::1]:18101");
    for (value, expected) in [
        ("a44db3549e461fcd8a5ae22f73f91140", "a"),
        ("d4515eabe517d737a5750d6f88e0a01e", "b"),
        ("e06013f2588c69bea7b40f21a8746639", "c"),
    ] {
        check(cookie(Format::Nginx { key: None }), &three, value, expected);
        check(cookie(Format::Nginx { key: key("sesame") }), &three, value, "-");
    }
}

/// tests/foreign_vectors.py shares no code with these files.
#[test]
fn another_implementation_makes_the_same_values() {
    let vectors = include_str!("../../../../tests/foreign_vectors.txt");
    let mut count = 0;
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let [format, word, addresses, value, at] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let backends: Vec<String> =
            addresses.split(',').zip(0..).map(|(address, n)| format!("b{n}={address}")).collect();
        let expected = backends.iter().find_map(|one| one.strip_suffix(&format!("={at}"))).unwrap();
        let word = (word != "-").then_some(word);
        let format = match format {
            "ingress_nginx" => Format::IngressNginx { service: word.map(Into::into) },
            "nginx" => Format::Nginx { key: word.and_then(key) },
            "traefik" => Format::Traefik,
            other => panic!("{other}"),
        };
        check(cookie(format), &backends.join(" "), value, expected);
        count += 1;
    }
    assert!(count > 300, "{count} vectors");
}

#[test]
fn the_hash_of_an_address_that_nobody_has_leads_nowhere() {
    let nginx = || cookie(Format::Nginx { key: None });
    let none = "d41d8cd98f00b204e9800998ecf8427e";
    check(nginx(), TWO, none, "-");
    check(cookie(Format::Traefik), TWO, none, "-");
    check(cookie(Format::IngressNginx { service: Some("shop".into()) }), TWO, none, "-");
    check(nginx(), "a=unix:/run/a", "unix:/run/a", "a");
    check(nginx(), TWO, &"x".repeat(VALUE_BYTES_MAX + 1), "-");
}

#[test]
fn addresses_of_then_go_before_those_of_now_and_values_before_both() {
    let moved = "a=10.0.0.1:80 b=10.0.0.2:80";
    for format in [Format::Nginx { key: None }, Format::Traefik] {
        let mut one = cookie(format);
        one.addresses = pairs("10.0.0.1:80=b web1:80=a");
        let shown = |name: &str| match one.format == Format::Traefik {
            true => traefik::values(&format!("http://{name}")).remove(3),
            false => nginx::values(name, None).remove(0),
        };
        check(one.clone(), moved, &shown("10.0.0.1:80"), "b");
        check(one.clone(), moved, &shown("10.0.0.2:80"), "b");
        check(one.clone(), moved, &shown("web1:80"), "a");
        let value = shown("10.0.0.2:80");
        one.values = pairs(&format!("{value}=a"));
        check(one.clone(), moved, &value, "a");
    }
}

#[test]
fn the_ring_of_ingress_nginx_is_that_of_the_endpoints_of_then() {
    let endpoints = "10.0.0.1:8080=a 10.0.0.2:8080=b 10.0.0.3:8080=c";
    let one = ForeignCookie {
        addresses: pairs(endpoints),
        ..cookie(Format::IngressNginx { service: None })
    };
    let now = "c=10.9.9.9:1 b=10.9.9.8:1 a=10.9.9.7:1";
    // As lua-resty-balancer 0.05 finds them.
    for (value, expected) in [
        ("1714564123.456.41.672283", "a"),
        ("1714564125.43.999998", "b"),
        ("1760000001.77.33.500000|10f2b49a6900fcbf20f75a8926fab356", "c"),
        ("anything", "-"),
        ("1.2", "-"),
        ("1.2.3.4.5", "-"),
        ("1..3", "-"),
        ("", "-"),
    ] {
        check(one.clone(), now, value, expected);
    }
    let strange = cookie(Format::IngressNginx { service: Some("shop-web-80".into()) });
    check(strange, TWO, "1714564125.43.999998|10f2b49a6900fcbf20f75a8926fab356", "-");
    check(cookie(Format::IngressNginx { service: None }), "a=unix:/a", "1714564125.43.9", "a");
}

#[test]
fn a_url_of_traefik_has_the_scheme_of_the_backends_and_may_be_short() {
    let tls = BackendTls::new("a.internal", Verify::Full);
    let secure = view(vec![cookie(Format::Traefik)], "a=10.0.0.1:443 b=10.0.0.1:80", Some(tls));
    for (url, expected) in [
        ("https://10.0.0.1:443", "a"),
        ("https://10.0.0.1", "a"),
        ("https://10.0.0.1/", "a"),
        ("https://10.0.0.1:80", "b"),
        ("http://10.0.0.1:443", "-"),
    ] {
        for value in traefik::values(url) {
            assert_eq!(home(&secure, &format!("c={value}")), expected, "{url}");
        }
    }
    let plain = view(vec![cookie(Format::Traefik)], "a=10.0.0.1:443 b=10.0.0.1:80", None);
    assert_eq!(home(&plain, "c=http://10.0.0.1"), "b");
    let mut h2c = cookie(Format::Traefik);
    h2c.addresses = pairs("h2c://10.0.0.1:80=a");
    check(h2c, "a=10.0.0.9:1", &traefik::values("h2c://10.0.0.1:80")[1], "a");
}

#[test]
fn the_first_of_the_list_that_leads_to_a_backend_counts() {
    let mut one = valued(Format::Map, "x=a");
    one.cookie = "one".into();
    let mut two = valued(Format::Map, "x=b y=b gone=nobody");
    two.cookie = "two".into();
    let view = view(vec![one, two], TWO, None);
    for (cookies, expected) in [
        ("two=x; one=x", "a"),
        ("one=z; two=x", "b"),
        ("one=z; one=x; two=y", "a"),
        ("two=gone", "-"),
        ("One=x", "-"),
        ("other=x", "-"),
    ] {
        assert_eq!(home(&view, cookies), expected, "{cookies}");
    }
    let many = "one=z; ".repeat(CANDIDATES_MAX) + "one=x";
    assert_eq!(home(&view, &many), "-", "not more than {CANDIDATES_MAX} are looked at");
}

#[test]
fn a_client_that_has_or_had_a_cookie_of_ours_is_known_by_that() {
    let view = view(vec![valued(Format::Map, "x=a")], TWO, None);
    let asked = |presented: Presented| view.app.foreign.find(&presented, &shows("c=x")).is_some();
    let unusable: Vec<&str> = Cause::ALL
        .into_iter()
        .filter(|cause| asked(Presented::Unusable(*cause)))
        .map(Cause::as_str)
        .collect();
    assert_eq!(unusable, ["forged", "malformed", "unknown_key", "wrong_app"]);
    assert!(asked(Presented::Nothing));
    assert!(!asked(Presented::Pin(testing::pin("b"))));
}

/// What is known of a client with these cookies, and by which foreign one.
fn known(view: &AppView, cookies: &str, now: u64) -> (Presented, Option<Adopted>) {
    let (headers, uri) = (shows(cookies), http::Uri::from_static("/"));
    let shown =
        Shown { headers: &headers, uri: &uri, address: Some([192, 0, 2, 1].into()), memo: None };
    let known = view.app.read(&shown, now, &mut SmallRng::seed_from_u64(1));
    (known.presented, known.adopted)
}

#[test]
fn a_foreign_cookie_goes_before_what_stands_behind_ours_and_after_what_stands_before() {
    for (ways, adopts) in
        [([Way::Cookie, Way::Address], true), ([Way::Address, Way::Cookie], false)]
    {
        let view = view_by(Box::new(ways), vec![valued(Format::Map, "x=b")], TWO, None);
        let (presented, adopted) = known(&view, "c=x", 1);
        assert_eq!(adopted.is_some(), adopts);
        assert_eq!(matches!(presented, Presented::Pin(_)), adopts);
        assert!(matches!(known(&view, "c=unknown", 1), (Presented::Key(_), None)));
    }
}

#[test]
fn a_client_that_is_known_gets_a_fresh_pin_and_ours_goes_before_from_then_on() {
    let view = view(vec![valued(Format::Map, "x=b")], TWO, None);
    let now = 1_760_000_000;
    let (presented, adopted) = known(&view, "c=x", now);
    let Presented::Pin(pin) = presented else { panic!("{presented:?}") };
    assert_eq!(
        (pin.token.backend, pin.renewal),
        (testing::hash("b"), super::super::Renewal::Unsent)
    );
    assert_eq!(u64::from(pin.token.issued), now);
    let adopted = adopted.unwrap();
    assert_eq!(view.app.foreign.named(adopted), Some("c"));
    view.app.foreign.count(adopted);
    assert_eq!(view.app.live.adopted(), [("c".into(), 1)]);

    let affinity = view.app.affinity.as_ref().unwrap();
    let ours = affinity.set_cookies(&testing::pin("a").token, Scheme::Http, 1).next().unwrap();
    let both = format!("c=x; {}", ours.split(';').next().unwrap());
    let (presented, adopted) = known(&view, &both, 1);
    assert!(matches!(presented, Presented::Pin(pin) if pin.token.backend == testing::hash("a")));
    assert_eq!(adopted, None);
    let (presented, adopted) = known(&view, &both, now);
    assert_eq!(presented, Presented::Unusable(Cause::ExpiredIdle), "older knowledge is over, too");
    assert_eq!(adopted, None);
}

#[test]
fn counts_go_on_under_the_same_name_and_end_with_it() {
    let live = AppLive::default();
    let names = |names: &[&'static str]| live.keep_adopted(names.iter().copied());
    names(&["a", "b", "a"])["a"].add(2);
    assert_eq!(live.adopted(), [("a".into(), 2), ("b".into(), 0)]);
    assert_eq!(names(&["a"])["a"].read(), 2);
    names(&[]);
    assert_eq!(names(&["a"])["a"].read(), 0);
}

#[test]
fn a_key_never_shows_itself() {
    assert_eq!(format!("{:?}", key("sesame").unwrap()), "ForeignKey(redacted)");
}
