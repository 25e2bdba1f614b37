//! Apps that other sites embed or call: the recipes of docs/cross-site.md.

use std::time::{SystemTime, UNIX_EPOCH};

use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::token::{
    BackendHash, ClientId, IncarnationHash, Notes, Sealer, Token,
};
use homing::balancer::name::{AppName, BackendId};

use crate::harness::{Backend, Edge, Jar, QUICK, Reply, Response, SECRET, shop};

const TWIN: &str =
    "    affinity: { cookie: { same_site: none, partitioned: on, twin: on }, obey_app: on }\n";

/// The origin of the site that calls.
const ORIGIN: &str = "Origin: https://site.example\r\n";

fn three(settings: &str) -> ([Backend; 3], Edge) {
    let backends = ["web.1", "web.2", "web.3"].map(api);
    let edge = Edge::start(&shop(&format!("{settings}{QUICK}"), &backends.each_ref()));
    (backends, edge)
}

/// An app that lets the site call it with credentials, and answers with its own id.
fn api(id: &str) -> Backend {
    let own = id.to_owned();
    Backend::new(id, move |request, _| {
        let allowed = "Access-Control-Allow-Origin: https://site.example\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n";
        let more = match request.path() {
            "/end" => "X-Homing-Affinity: end\r\n",
            "/events" => "Content-Type: text/event-stream\r\n",
            "/live" => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
                return Reply::Last(format!("{head}X-Backend: {own}\r\n\r\n").into());
            }
            _ => "",
        };
        match request.line.starts_with("OPTIONS") {
            true => {
                let head = "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: PUT\r\n";
                Reply::Bytes(format!("{head}{allowed}\r\n").into())
            }
            false => Reply::with("200 OK", &format!("{allowed}{more}"), &own),
        }
    })
}

/// The cookies of ours that a response sets, by name: value and attributes.
fn ours(response: &Response) -> Vec<(String, String, String)> {
    let split = |line: &str| {
        let (name, rest) = line.split_once('=')?;
        let (value, attributes) = rest.split_once("; ")?;
        name.starts_with("homing")
            .then(|| (name.to_owned(), value.to_owned(), attributes.to_owned()))
    };
    response.all("set-cookie").into_iter().filter_map(split).collect()
}

/// A token for `web.2` of this age in seconds, as the edge of the tests makes it.
fn token(age: u64) -> String {
    let ring = Keyring::new(vec![Key::from_secret(SECRET.as_bytes()).unwrap()]).unwrap();
    let sealer = Sealer::new(&ring, "homing-affinity", &AppName::parse("shop").unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let then = u32::try_from(now - age).unwrap();
    let token = Token {
        client: ClientId::draw(&mut rand::rng()),
        notes: Notes::default(),
        backend: BackendHash::of(&BackendId::parse("web.2").unwrap()),
        incarnation: IncarnationHash::of(None),
        issued: then,
        renewed: then,
    };
    sealer.seal(&token).as_str().to_owned()
}

#[test]
fn the_twin_carries_the_same_token_for_browsers_that_drop_the_first() {
    let (backends, edge) = three(TWIN);
    let first = edge.get("/");
    let cookies = ours(&first);
    let [(one, token, attributes), (two, same, plain)] = cookies.as_slice() else {
        panic!("{cookies:?}")
    };
    assert_eq!((one.as_str(), two.as_str()), ("homing-affinity", "homing-affinity-twin"));
    assert_eq!((token, token.len()), (same, 64));
    assert_eq!(attributes, "HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Max-Age=86400");
    assert_eq!(plain, "HttpOnly; Secure; Path=/; Max-Age=86400");
    // What each kind of browser sends.
    for line in [
        format!("a=1; {one}={token}; {two}={token}; b=2"),
        format!("a=1; {one}={token}; b=2"),
        format!("a=1; {two}={token}; b=2"),
    ] {
        let next = edge.client().get("/", &format!("Cookie: {line}\r\n"));
        assert_eq!((next.text(), ours(&next)), (first.text(), vec![]), "{line}");
        let home = backends.iter().find(|backend| backend.id() == next.text()).unwrap();
        assert_eq!(home.last().all("cookie"), ["a=1; b=2"], "{line}");
    }
    edge.counts_affinity("followed", "", 3.0);
    let key = edge.metric(&format!("homing_affinity_key_opens_total{{key=\"{}\"}}", key()));
    assert!((key - 3.0).abs() < 0.5, "{key} opens");
}

fn key() -> String {
    Key::from_secret(SECRET.as_bytes()).unwrap().id().to_string()
}

#[test]
fn both_are_renewed_together_and_taken_back_together() {
    let (_backends, edge) = three(TWIN);
    let (old, young) = (token(40_000), token(0));
    let line = |one: &str, two: &str| {
        format!("Cookie: homing-affinity={one}; homing-affinity-twin={two}\r\n")
    };
    let renewed = ours(&edge.client().get("/", &line(&old, &old)));
    assert!(renewed.len() == 2 && renewed[0].1 == renewed[1].1 && renewed[0].1 != old);
    let alone = ours(&edge.client().get("/", &format!("Cookie: homing-affinity-twin={old}\r\n")));
    assert_eq!(alone.len(), 2);
    for line in [line(&young, &old), line(&old, &young), line("damaged", &young)] {
        let next = edge.client().get("/", &line);
        assert_eq!((next.text().as_str(), ours(&next)), ("web.2", vec![]), "{line}");
    }
    let ended = ours(&edge.client().get("/end", &line(&young, &young)));
    assert!(ended.iter().all(|(_, value, rest)| value.is_empty() && rest.ends_with("Max-Age=0")));
    assert!(ended.len() == 2 && ended[0].2.contains("; Partitioned; Secure; "), "{ended:?}");
}

#[test]
fn the_prefix_of_a_name_holds_for_the_twin() {
    let settings = TWIN.replace("{ same_site", "{ name: __Host-homing, same_site");
    let (_backends, edge) = three(&settings);
    let first = edge.get("/");
    let lines = first.all("set-cookie");
    assert!(lines[0].starts_with("__Host-homing="), "{lines:?}");
    assert!(lines[1].starts_with("__Host-homing-twin="), "{lines:?}");
    for line in lines {
        assert!(line.contains("; Secure; Path=/;") && !line.contains("Domain"), "{line}");
    }
}

#[test]
fn commands_take_either_cookie() {
    let (_backends, edge) = three(TWIN);
    let value = token(5);
    let shown = format!("homing-affinity-twin={value}");
    let told = edge.command(&["explain", "--host", "a.example", "--cookie", &shown]);
    told.is_done("to web.2, where the pin leads");
    edge.command(&["token", "inspect", &shown]).is_done("web.2 at ");
    let told = edge.command(&["explain", "--host", "a.example"]);
    told.is_done("none of the name `homing-affinity` or `homing-affinity-twin`");
}

#[test]
fn an_embedded_app_has_a_pin_for_each_site_that_embeds_it() {
    let (_backends, edge) = three(TWIN);
    // A browser keeps a jar for each of them (CHIPS).
    let mut jars = [Jar::default(), Jar::default()];
    let homes = jars.each_mut().map(|jar| jar.get(edge.address(), "/").text());
    for _ in 0..5 {
        for (jar, home) in jars.iter_mut().zip(&homes) {
            assert_eq!(jar.get(edge.address(), "/").text(), *home);
        }
    }
    edge.counts_affinity("made", "", 2.0);
    edge.counts_affinity("followed", "", 10.0);
}

#[test]
fn a_call_with_credentials_follows_its_pin_and_a_preflight_has_none() {
    let (_backends, edge) = three("    affinity: { cookie: { same_site: none } }\n");
    let mut jar = Jar::default();
    let call = |jar: &mut Jar, path: &str| {
        let response = edge.client().get(path, &format!("{ORIGIN}{}", jar.header()));
        jar.take(&response);
        response
    };
    let home = call(&mut jar, "/").text();
    for _ in 0..3 {
        let mut preflight = edge.client();
        let asks = "Access-Control-Request-Method: PUT\r\n";
        preflight.send(format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{ORIGIN}{asks}\r\n"));
        let allowed = preflight.read();
        assert_eq!(
            (allowed.status, allowed.header("access-control-allow-methods")),
            (204, Some("PUT"))
        );
        // The browser does not take the cookie of an answer to a preflight: nothing is moved by it.
        assert_eq!(allowed.all("access-control-allow-credentials"), ["true"]);
        let next = call(&mut jar, "/");
        assert_eq!(next.text(), home);
        assert_eq!(next.all("access-control-allow-origin"), ["https://site.example"]);
        assert_eq!(next.all("vary"), ["Origin"]);
    }
    assert_eq!(call(&mut jar, "/events").text(), home, "server-sent events");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let live = edge.client().get("/live", &format!("{ORIGIN}{upgrade}{}", jar.header()));
    assert_eq!((live.status, live.header("x-backend")), (101, Some(home.as_str())));
    edge.counts_affinity("followed", "", 5.0);
    // Each preflight is a first visit of its own.
    edge.counts_affinity("made", "", 4.0);
}

#[test]
fn preflights_are_no_first_visits_where_pins_begin_with_a_session() {
    let settings = "    affinity: { cookie: { same_site: none }, start_on: [sid] }\n";
    let (_backends, edge) = three(settings);
    let mut preflight = edge.client();
    preflight.send(format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{ORIGIN}\r\n"));
    assert_eq!(preflight.read().header("set-cookie"), None);
    edge.counts_affinity("off", "", 1.0);
}
