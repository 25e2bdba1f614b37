//! A client returns to its backend.

use std::time::{SystemTime, UNIX_EPOCH};

use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::token::{
    BackendHash, ClientId, IncarnationHash, Notes, Sealer, Token,
};
use homing::balancer::name::{AppName, BackendId, Incarnation};

use crate::harness::{Backend, Edge, Jar, QUICK, Reply, SECRET, scratch, shop, write_key};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A cookie as this edge would have made it, `age` seconds ago.
pub(crate) fn cookie(
    secret: &str,
    app: &str,
    backend: &str,
    incarnation: Option<&str>,
    age: u64,
) -> String {
    let ring = Keyring::new(vec![Key::from_secret(secret.as_bytes()).unwrap()]).unwrap();
    let sealer = Sealer::new(&ring, "homing-affinity", &AppName::parse(app).unwrap());
    let then = u32::try_from(now() - age).unwrap();
    let token = Token {
        client: ClientId::draw(&mut rand::rng()),
        notes: Notes::default(),
        backend: BackendHash::of(&BackendId::parse(backend).unwrap()),
        incarnation: IncarnationHash::of(
            incarnation.map(|i| Incarnation::parse(i).unwrap()).as_ref(),
        ),
        issued: then,
        renewed: then,
    };
    format!("Cookie: homing-affinity={}\r\n", sealer.seal(&token).as_str())
}

/// The value of a cookie of `shop` as an edge would have made it, `age` seconds ago.
pub(crate) fn value(backend: &str, age: u64) -> String {
    let line = cookie(SECRET, "shop", backend, None, age);
    line.trim().split_once('=').unwrap().1.to_owned()
}

fn three() -> [Backend; 3] {
    ["web.1", "web.2", "web.3"].map(Backend::named)
}

#[test]
fn every_client_returns_to_its_backend() {
    let [a, b, c] = three();
    let edge = Edge::start(&shop(QUICK, &[&a, &b, &c]));
    let mut seen = Vec::new();
    for _ in 0..30 {
        let mut jar = Jar::default();
        let home = jar.get(edge.address(), "/").text();
        for _ in 0..5 {
            assert_eq!(jar.get(edge.address(), "/").text(), home);
        }
        seen.push(home);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "new clients are spread");
    edge.counts_affinity("made", "", 30.0);
    edge.counts_affinity("followed", "", 150.0);
}

#[test]
fn the_cookie_is_sent_once_while_nothing_changes() {
    let [a, b, _] = three();
    let edge = Edge::start(&shop(QUICK, &[&a, &b]));
    let mut jar = Jar::default();
    let first = jar.get(edge.address(), "/");
    let line = first.header("set-cookie").unwrap();
    assert!(line.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400"), "{line}");
    assert_eq!(first.token().unwrap().len(), "homing-affinity=".len() + 64);
    assert!(jar.get(edge.address(), "/").token().is_none());
}

#[test]
fn the_cookie_is_made_whatever_the_status() {
    let backend = Backend::new("web.1", |request, _| match request.path() {
        "/304" => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec()),
        "/302" => Reply::with("302 Found", "Location: /x\r\n", ""),
        "/500" => Reply::with("500 Oh", "", "no"),
        "/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        _ => Reply::ok("ok"),
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    for path in ["/304", "/302", "/500", "/204", "/"] {
        assert!(edge.get(path).token().is_some(), "{path}");
    }
}

#[test]
fn the_backend_sees_the_cookies_of_the_app_alone_and_to_the_byte() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let ours = cookie(SECRET, "shop", "web.1", None, 0);
    let ours = ours.trim().strip_prefix("Cookie: ").unwrap();
    let lines = format!("Cookie: a=1; {ours}; b=\"2; c\"\r\nCookie: {ours}\r\nCookie: d==\r\n");
    let response = edge.client().get("/", &lines);
    assert!(response.token().is_none(), "the pin is followed");
    assert_eq!(backend.last().all("cookie"), ["a=1; b=\"2; c\"", "d=="]);
    edge.client().get("/", &format!("Cookie: {ours}\r\n"));
    assert!(backend.last().all("cookie").is_empty());
}

#[test]
fn cookies_that_the_app_sets_are_neither_merged_nor_lost() {
    let backend = Backend::new("web.1", |_, _| {
        let lines = "Set-Cookie: a=1; Expires=Thu, 01 Jan 2032 00:00:00 GMT\r\nSet-Cookie: b=2\r\n";
        Reply::with("200 OK", lines, "")
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let response = edge.get("/");
    let lines = response.all("set-cookie");
    assert_eq!(lines[..2], ["a=1; Expires=Thu, 01 Jan 2032 00:00:00 GMT", "b=2"]);
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_pin_is_renewed_when_a_quarter_of_its_idle_life_is_gone() {
    let [a, b, _] = three();
    let edge = Edge::start(&shop(QUICK, &[&a, &b]));
    let young = edge.client().get("/", &cookie(SECRET, "shop", "web.2", None, 21_000));
    assert_eq!((young.text().as_str(), young.token().is_some()), ("web.2", false));
    let old = edge.client().get("/", &cookie(SECRET, "shop", "web.2", None, 22_000));
    assert_eq!((old.text().as_str(), old.token().is_some()), ("web.2", true));
    edge.counts_affinity("followed", "", 2.0);
}

#[test]
fn an_older_key_opens_and_the_newest_seals() {
    let [a, b, _] = three();
    let old = "another secret, which was the first one before";
    let directory = scratch();
    let path = directory.path().join("old");
    write_key(&path, old);
    let head = format!("affinity_keys: [{{ file: key }}, {{ file: {} }}]\n", path.display());
    let edge = Edge::start_with(&head, &shop(QUICK, &[&a, &b]));
    let response = edge.client().get("/", &cookie(old, "shop", "web.2", None, 0));
    assert_eq!(response.text(), "web.2");
    let renewed = response.token().expect("sealed anew");
    let again = edge.client().get("/", &format!("Cookie: {renewed}\r\n"));
    assert_eq!((again.text().as_str(), again.token()), ("web.2", None));
}

#[test]
fn a_pin_that_cannot_be_followed_moves_and_says_why() {
    let [a, b, _] = three();
    let mut file = shop(QUICK, &[&a]);
    file.push_str(&format!(
        "      - {{ id: web.2, address: \"{}\", incarnation: v2 }}\n",
        b.address()
    ));
    let settings = "    affinity: { lifetime: 48h, idle: 24h }\n";
    let file = file.replacen("    health:", &format!("{settings}    health:"), 1);
    let edge = Edge::start(&file);
    let day = 86_400;
    let cases = [
        // Younger ones may be of an edge with a newer list.
        (cookie(SECRET, "shop", "web.9", None, 700), "removed"),
        (cookie(SECRET, "shop", "web.2", Some("v1"), 100), "new_incarnation"),
        (cookie(SECRET, "shop", "web.1", None, day + 100), "expired_idle"),
        (cookie(SECRET, "shop", "web.1", None, 2 * day + 100), "expired_lifetime"),
        (
            cookie("a secret that no edge of the tests knows", "shop", "web.1", None, 0),
            "unknown_key",
        ),
        (cookie(SECRET, "blog", "web.1", None, 0), "forged"),
        ("Cookie: homing-affinity=web.1\r\n".to_owned(), "malformed"),
    ];
    for (cookie, cause) in cases {
        let response = edge.client().get("/", &cookie);
        assert_eq!(response.status, 200, "{cause}");
        assert!(response.token().is_some(), "{cause}");
        edge.counts_affinity("moved", cause, 1.0);
    }
    let same = edge.client().get("/", &cookie(SECRET, "shop", "web.2", Some("v2"), 0));
    assert_eq!((same.text().as_str(), same.token()), ("web.2", None));
}

#[test]
fn of_several_cookies_the_valid_one_counts_wherever_it_stands() {
    let [a, b, _] = three();
    let edge = Edge::start(&shop(QUICK, &[&a, &b]));
    let value = |line: String| line.trim().strip_prefix("Cookie: ").unwrap().to_owned();
    let valid = value(cookie(SECRET, "shop", "web.2", None, 0));
    let older = value(cookie(SECRET, "shop", "web.1", None, 50));
    let bad = "homing-affinity=x";
    for line in [
        format!("{bad}; {valid}"),
        format!("{valid}; {bad}"),
        format!("{older}; {valid}"),
        format!("{valid}; {older}"),
    ] {
        let response = edge.client().get("/", &format!("Cookie: {line}\r\n"));
        assert_eq!((response.text().as_str(), response.token()), ("web.2", None), "{line}");
    }
    let split = edge.client().get("/", &format!("Cookie: {bad}\r\nCookie: {valid}\r\n"));
    assert_eq!(split.text(), "web.2");
}

#[test]
fn affinity_can_be_switched_off() {
    let [a, b, c] = three();
    let edge = Edge::start(&shop(&format!("    affinity: off\n{QUICK}"), &[&a, &b, &c]));
    let mut jar = Jar::default();
    let mut seen: Vec<String> = (0..40).map(|_| jar.get(edge.address(), "/").text()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    assert!(jar.header().is_empty());
    edge.counts_affinity("off", "", 40.0);
}

#[test]
fn the_cookie_looks_as_the_operator_wants_it() {
    let backend = Backend::named("web.1");
    let settings = "    affinity:\n      cookie: { name: __Secure-home, same_site: none, partitioned: on, path: /, domain: example.com }\n      idle: 1h\n";
    let file = shop(&format!("{settings}{QUICK}"), &[&backend]);
    let file = file.replacen("    affinity:", "    domains: [shop.example.com]\n    affinity:", 1);
    let edge = Edge::start(&file);
    let response = edge.get("/");
    let line = response.header("set-cookie").unwrap();
    assert!(line.starts_with("__Secure-home="), "{line}");
    for part in
        ["SameSite=None", "Partitioned", "Secure", "Domain=example.com", "Path=/", "Max-Age=3600"]
    {
        assert!(line.split("; ").any(|attribute| attribute == part), "{part} in {line}");
    }
}

#[test]
fn the_cookie_is_secure_when_a_trusted_proxy_says_that_the_client_came_over_tls() {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with("trusted_proxies: [127.0.0.1]\n", &shop(QUICK, &[&backend]));
    let secure = edge.client().get("/", "X-Forwarded-Proto: https\r\n");
    assert!(secure.header("set-cookie").unwrap().contains("; Secure"));
    assert!(!edge.get("/").header("set-cookie").unwrap().contains("; Secure"));
}

#[test]
fn a_response_with_our_cookie_is_kept_out_of_shared_caches() {
    let backend = Backend::new("web.1", |request, _| match request.path() {
        "/public" => Reply::with("200 OK", "Cache-Control: public, max-age=60\r\n", ""),
        "/no-store" => Reply::with("200 OK", "Cache-Control: no-store\r\n", ""),
        _ => Reply::ok(""),
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    assert_eq!(edge.get("/public").all("cache-control"), ["private, max-age=60"]);
    assert_eq!(edge.get("/no-store").all("cache-control"), ["no-store"]);
    assert_eq!(edge.get("/").all("cache-control"), ["private"]);
    let pinned = cookie(SECRET, "shop", "web.1", None, 0);
    let untouched = edge.client().get("/public", &pinned);
    assert_eq!(untouched.all("cache-control"), ["public, max-age=60"]);
}

#[test]
fn an_app_may_have_its_cacheable_responses_left_alone() {
    let backend = Backend::new("web.1", |request, _| match request.path() {
        "/public" => Reply::with("200 OK", "Cache-Control: public, max-age=60\r\n", ""),
        _ => Reply::ok(""),
    });
    let settings = format!("    affinity: {{ on_cacheable: leave_alone }}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&backend]));
    let public = edge.get("/public");
    assert_eq!((public.token(), public.all("cache-control")), (None, vec!["public, max-age=60"]));
    assert!(edge.get("/").token().is_some());
}

#[test]
fn a_token_of_a_neighbour_on_the_same_domain_is_told_from_a_forged_one() {
    let [a, b, _] = three();
    let file = format!(
        "apps:\n  - name: shop\n    domains: [shop.example.com]\n{QUICK}    backends: [{{ id: web.1, address: \"{}\" }}]\n\
         \x20 - name: api\n    domains: [shop.example.com]\n    path_prefixes: [/api]\n{QUICK}    backends: [{{ id: web.1, address: \"{}\" }}]\n",
        a.address(),
        b.address()
    );
    let edge = Edge::start(&file);
    let first = edge.get("/");
    let shop = first.token().unwrap();
    let api = edge.client().get("/api", &format!("Cookie: {shop}\r\n"));
    assert!(api.header("set-cookie").unwrap().contains("; Path=/api;"));
    let moved = "homing_affinity_requests_total{app=\"api\",outcome=\"moved\",cause=\"wrong_app\"}";
    edge.counts(moved, 1.0);
    // A browser sends both under /api; each app finds its own.
    let both = format!("Cookie: {}; {shop}\r\n", api.token().unwrap());
    assert!(edge.client().get("/api", &both).token().is_none());
    assert!(edge.client().get("/", &both).token().is_none());
}

#[test]
fn an_app_may_prefer_an_error_over_a_move() {
    let [a, b, _] = three();
    let settings = format!("    affinity: {{ on_unavailable: strict }}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&a, &b]));
    let pinned = cookie(SECRET, "shop", "web.2", None, 0);
    b.set_healthy(false);
    edge.wait_for("web.2", "closed");
    let lost = edge.client().get("/", &pinned);
    assert_eq!((lost.status, lost.header("x-homing-error")), (503, Some("N10")));
    edge.counts_affinity("refused", "unhealthy", 1.0);
    b.set_healthy(true);
    edge.wait_for("web.2", "open");
    assert_eq!(edge.client().get("/", &pinned).text(), "web.2");
}

#[test]
fn the_cookie_of_another_app_on_the_domain_counts_as_strange_once_and_not_as_forged() {
    let [shop, api, _] = three();
    let file = format!(
        "apps:\n  - {{ name: shop, domains: [shop.example.com], backends: [{{ id: web.1, address: \"{}\" }}] }}\n  - \
         {{ name: api, domains: [shop.example.com], path_prefixes: [/api], backends: [{{ id: web.2, address: \"{}\" }}] }}\n",
        shop.address(),
        api.address()
    );
    let edge = Edge::start(&file);
    let ours = edge.get("/").token().unwrap();
    let response = edge.client().get("/api", &format!("Cookie: {ours}\r\n"));
    assert_eq!(response.text(), "web.2");
    let own = response.token().unwrap();
    let series = |outcome, cause| {
        format!(
            "homing_affinity_requests_total{{app=\"api\",outcome=\"{outcome}\",cause=\"{cause}\"}}"
        )
    };
    edge.counts(&series("moved", "wrong_app"), 1.0);
    // A browser shows both below the prefix, and the one that counts is the app's own.
    let both = edge.client().get("/api", &format!("Cookie: {ours}; {own}\r\n"));
    assert_eq!(both.text(), "web.2");
    edge.counts(&series("followed", ""), 1.0);
    edge.counts(&series("moved", "wrong_app"), 1.0);
}
