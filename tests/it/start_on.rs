//! When pins begin: with the first request, with a session of the app, or when the app says so.

use std::io::Write;

use crate::harness::{Backend, Edge, Jar, QUICK, Reply, eventually, shop};

const SESSIONS: &str = "    affinity: { start_on: [JSESSIONID, connect.sid] }\n";
const SIGNAL: &str = "    affinity: { start_on: signal, obey_app: on }\n";

/// Answers with its own id, and by path with more.
fn app(id: &str) -> Backend {
    let own = id.to_owned();
    Backend::new(id, move |request, stream| {
        let lines = match request.path() {
            "/login" => "Set-Cookie: theme=dark\r\nSet-Cookie: JSESSIONID=1; Path=/; HttpOnly\r\n",
            "/express" => "Set-Cookie: connect.sid=s%3A1; Path=/; HttpOnly\r\n",
            "/logout" => "Set-Cookie: JSESSIONID=; Path=/; Max-Age=0\r\n",
            "/php" => "Set-Cookie: JSESSIONID=deleted; Expires=Thu, 01-Jan-1970 00:00:01 GMT\r\n",
            "/theme" => "Set-Cookie: theme=JSESSIONID\r\n",
            "/start" => "X-Homing-Affinity: start\r\n",
            "/ended" => "X-Homing-Affinity: start, end\r\nSet-Cookie: JSESSIONID=1; Path=/\r\n",
            "/public" => "Set-Cookie: JSESSIONID=1\r\nCache-Control: public, max-age=60\r\n",
            "/socket" => {
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
                stream.write_all(head.as_bytes()).unwrap();
                return Reply::Last(b"Set-Cookie: connect.sid=s%3A1\r\n\r\n".to_vec());
            }
            _ => "",
        };
        Reply::with("200 OK", lines, &own)
    })
}

fn three(settings: &str) -> ([Backend; 3], Edge) {
    let backends = ["web.1", "web.2", "web.3"].map(app);
    let edge = Edge::start(&shop(&format!("{settings}{QUICK}"), &backends.each_ref()));
    (backends, edge)
}

/// The client stays where this path took it, which made its pin.
#[track_caller]
fn begins(edge: &Edge, path: &str) {
    let mut jar = Jar::default();
    let first = jar.get(edge.address(), path);
    assert!(
        first.token().is_some() && first.header("cache-control") == Some("private"),
        "{first:?}"
    );
    for _ in 0..5 {
        let next = jar.get(edge.address(), "/");
        assert_eq!((next.text(), next.token()), (first.text(), None));
    }
}

/// A response to this path begins nothing.
#[track_caller]
fn begins_not(edge: &Edge, path: &str) {
    let response = edge.get(path);
    assert_eq!((response.status, response.token()), (200, None), "{path}");
}

#[test]
fn nobody_has_an_affinity_cookie_before_the_app_opens_a_session() {
    let (_backends, edge) = three(SESSIONS);
    let mut jar = Jar::default();
    let mut seen: Vec<String> = (0..40).map(|_| jar.get(edge.address(), "/").text()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), jar.header().as_str()), (3, ""));
    for path in ["/theme", "/logout", "/php", "/start"] {
        begins_not(&edge, path);
    }
    edge.counts_affinity("off", "", 44.0);
    assert!(edge.affinity("made", "") < 0.5);
}

#[test]
fn a_pin_begins_with_the_response_that_opens_the_session() {
    let (_backends, edge) = three(SESSIONS);
    begins(&edge, "/login");
    begins(&edge, "/express");
    edge.counts_affinity("made", "", 2.0);
    edge.counts_affinity("followed", "", 10.0);
    assert!(edge.affinity("off", "") < 0.5);
    let upgrade = edge.client().get("/socket", "Connection: Upgrade\r\nUpgrade: echo\r\n");
    assert_eq!((upgrade.status, upgrade.token().is_some()), (101, true));
    edge.counts_affinity("made", "", 3.0);
}

#[test]
fn a_client_that_shows_a_session_but_no_pin_is_pinned_at_once() {
    let (_backends, edge) = three(SESSIONS);
    let session = "Cookie: theme=dark; JSESSIONID=7\r\n";
    let first = edge.client().get("/", session);
    let token = first.token().expect("a pin");
    for _ in 0..5 {
        let lines = format!("{}; {token}\r\n", session.trim_end());
        let next = edge.client().get("/", &lines);
        assert_eq!((next.text(), next.token()), (first.text(), None));
    }
    edge.counts_affinity("made", "", 1.0);
    let why = ["explain", "--host", "a.example", "--cookie", "JSESSIONID=7"];
    edge.command(&why).is_done("at once: it shows a session of the app");
    let why = ["explain", "--host", "a.example"];
    edge.command(&why).is_done("not before the app sets JSESSIONID or connect.sid or says `start`");
}

#[test]
fn a_pin_outlives_the_session_unless_the_app_ends_it() {
    let (_backends, edge) = three(SESSIONS);
    let mut jar = Jar::default();
    let home = jar.get(edge.address(), "/login").text();
    assert_eq!(
        jar.get(edge.address(), "/logout").header("set-cookie").unwrap().find("homing"),
        None
    );
    for _ in 0..5 {
        assert_eq!(jar.get(edge.address(), "/").text(), home);
    }
    edge.counts_affinity("followed", "", 6.0);
}

#[test]
fn a_pin_begins_when_the_app_says_so() {
    let (_backends, edge) = three(SIGNAL);
    for path in ["/", "/login", "/ended"] {
        begins_not(&edge, path);
    }
    edge.counts_affinity("off", "", 3.0);
    begins(&edge, "/start");
    edge.counts_affinity("made", "", 1.0);
    edge.command(&["explain", "--host", "a.example"]).is_done("not before the app says `start`");
}

#[test]
fn an_app_that_is_obeyed_may_begin_a_pin_without_a_session() {
    let (_backends, edge) = three("    affinity: { start_on: [JSESSIONID], obey_app: on }\n");
    begins(&edge, "/start");
    begins(&edge, "/login");
    begins_not(&edge, "/ended");
}

#[test]
fn a_response_that_is_to_stay_cacheable_begins_nothing() {
    let settings = "    affinity: { start_on: [JSESSIONID], on_cacheable: leave_alone }\n";
    let (_backends, edge) = three(settings);
    let public = edge.get("/public");
    assert_eq!(
        (public.token(), public.header("cache-control")),
        (None, Some("public, max-age=60"))
    );
    edge.counts_affinity("off", "", 1.0);
    begins(&edge, "/login");
}

#[test]
fn a_pin_that_cannot_be_followed_is_moved_as_ever() {
    let (backends, edge) = three(SESSIONS);
    let mut jar = eventually("a client of web.1", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/login").text() == "web.1").then_some(jar)
    });
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
    let moved = jar.get(edge.address(), "/");
    assert!(moved.text() != "web.1" && moved.token().is_some());
    edge.counts_affinity("moved", "unhealthy", 1.0);
}
