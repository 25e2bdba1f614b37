//! Clients without cookies: known by what else their requests show.

use std::collections::BTreeMap;

use crate::harness::{Backend, Edge, Jar, Launch, QUICK, Response, eventually, shop};

fn three() -> [Backend; 3] {
    ["web.1", "web.2", "web.3"].map(Backend::named)
}

fn file(affinity: &str, backends: &[Backend]) -> String {
    let settings = format!("{QUICK}    affinity: {{ {affinity} }}\n");
    shop(&settings, &backends.iter().collect::<Vec<_>>())
}

fn edge(affinity: &str, backends: &[Backend]) -> Edge {
    Edge::start(&file(affinity, backends))
}

/// Where each of these header values leads; all on one connection.
fn homes(edge: &Edge, clients: usize) -> BTreeMap<usize, String> {
    let mut connection = edge.client();
    let mut home = |client| connection.get("/", &format!("X-Session-Id: user-{client}\r\n")).text();
    (0..clients).map(|client| (client, home(client))).collect()
}

/// A header value whose home is this backend.
fn at_home(edge: &Edge, id: &str) -> String {
    let homes = homes(edge, 20);
    let (client, _) = homes.into_iter().find(|(_, home)| home == id).unwrap();
    format!("X-Session-Id: user-{client}\r\n")
}

#[track_caller]
fn is_at(response: &Response, id: &str) {
    assert_eq!((response.status, response.text().as_str()), (200, id), "{response:?}");
}

#[test]
fn each_way_leads_a_client_to_its_backend_without_a_cookie_and_on_every_edge() {
    let backends = three();
    let ways =
        "identify_by: [{ header: X-Session-Id }, { query: sid }, { path_after: /echo }, address]";
    let apps = file(ways, &backends);
    // Neither edge knows the key of the other.
    let launch = || Launch::with_own_key("trusted_proxies: [127.0.0.1]\n", &apps).start_ready();
    let edges = [launch(), launch()];
    type Request = fn(usize) -> (String, String);
    let requests: [Request; 5] = [
        |client| ("/".into(), format!("X-Session-Id: s{client}\r\n")),
        |client| (format!("/socket?EIO=4&sid=s{client}"), String::new()),
        |client| (format!("/echo/{client:03}/s{client}/xhr_streaming"), String::new()),
        |client| ("/".into(), format!("X-Forwarded-For: 192.0.2.{client}\r\n")),
        |client| ("/".into(), format!("X-Forwarded-For: 2001:db8:0:{client}::9\r\n")),
    ];
    let mut asked = 0.0;
    for request in requests {
        let mut seen = Vec::new();
        for (path, headers) in (0..20).map(request) {
            let responses =
                [0, 1, 0].map(|index: usize| edges[index].client().get(&path, &headers));
            asked += 2.0;
            let home = responses[0].text();
            assert!(responses.iter().all(|response| response.text() == home), "{path} {headers}");
            assert!(responses.iter().all(|response| response.header("set-cookie").is_none()));
            seen.push(home);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3, "clients are spread");
    }
    edges[0].counts_affinity("followed", "", asked);
    let same = |address: &str| {
        edges[0].client().get("/", &format!("X-Forwarded-For: {address}\r\n")).text()
    };
    assert_eq!(
        same("2001:db8:7:7:1::1"),
        same("2001:db8:7:7:ffff::2"),
        "one network is one client"
    );
}

#[test]
fn a_sockjs_session_is_at_one_backend_and_its_other_urls_anywhere() {
    let backends = three();
    let edge = edge("identify_by: [{ path_after: /echo }]", &backends);
    let mut connection = edge.client();
    let home = connection.get("/echo/042/k2j4h5kj/xhr_streaming?t=1", "").text();
    for transport in ["xhr_send?t=2", "xhr", "eventsource", "websocket", "jsonp_send"] {
        is_at(&connection.get(&format!("/echo/042/k2j4h5kj/{transport}"), ""), &home);
    }
    edge.counts_affinity("followed", "", 6.0);
    for path in ["/echo/info?t=3", "/echo/iframe.html", "/echo", "/", "/echo/websocket"] {
        assert!(connection.get(path, "").token().is_none(), "{path}");
    }
    edge.counts_affinity("off", "", 5.0);
}

#[test]
fn a_client_that_takes_our_cookie_is_known_by_it_from_then_on() {
    let backends = three();
    let edge = edge("identify_by: [cookie, { header: X-Session-Id }]", &backends);
    for client in 0..10 {
        let header = format!("X-Session-Id: user-{client}\r\n");
        let first = edge.client().get("/", &header);
        let token = first.token().expect("it gets our cookie as well");
        let cookie = format!("Cookie: {token}\r\n");
        let later = [cookie.clone(), format!("{cookie}X-Session-Id: somebody else\r\n")];
        for headers in later {
            let again = edge.client().get("/", &headers);
            is_at(&again, &first.text());
            assert!(again.token().is_none());
        }
        is_at(&edge.client().get("/", &header), &first.text());
    }
    edge.counts_affinity("followed", "", 40.0);
    let bad = edge.client().get("/", "Cookie: homing-affinity=x\r\nX-Session-Id: user-0\r\n");
    is_at(&bad, &homes(&edge, 1)[&0]);
    assert!(bad.token().is_some());
    edge.counts_affinity("moved", "malformed", 1.0);
    assert!(edge.get("/").token().is_some(), "who shows nothing is a first visit");
    edge.counts_affinity("made", "", 1.0);
}

#[test]
fn the_backend_sees_what_the_client_sent_less_our_cookie_where_that_is_a_way() {
    let backend = Backend::named("web.1");
    let backends = [backend];
    let cookies = "Cookie: a=1; homing-affinity=x; b=2\r\nX-Session-Id: 7\r\n";
    for (ways, expected) in [
        ("[{ header: X-Session-Id }, cookie]", "a=1; b=2"),
        ("[{ header: X-Session-Id }]", "a=1; homing-affinity=x; b=2"),
    ] {
        let edge = edge(&format!("identify_by: {ways}"), &backends);
        let response = edge.client().get("/echo/1/2/xhr?sid=%41", cookies);
        assert_eq!(response.header("set-cookie"), None);
        let seen = backends[0].last();
        assert_eq!((seen.all("cookie"), seen.all("x-session-id")), (vec![expected], vec!["7"]));
        assert_eq!(seen.path(), "/echo/1/2/xhr?sid=%41");
        edge.client().get("/", "X-Session-Id: 7\r\nCookie: a=1\r\nCookie: b=2\r\n");
        assert_eq!(backends[0].last().all("cookie"), ["a=1", "b=2"]);
    }
}

#[test]
fn the_session_of_the_app_names_its_backend() {
    let backends = three();
    let ways = "identify_by: [{ session_cookie: JSESSIONID, routes: { t1: web.1, t9: web.9 } }, { query: sid }]";
    let edge = edge(ways, &backends);
    let mut connection = edge.client();
    for number in 0..10 {
        let mut with = |path: &str, value: &str| {
            connection.get(path, &format!("Cookie: x=1; JSESSIONID={number}F.{value}\r\n"))
        };
        is_at(&with("/", "web.2"), "web.2");
        is_at(&with("/", "t1"), "web.1");
        is_at(&with(&format!("/;jsessionid={number}F.web.3"), "unknown"), "web.3");
        is_at(&connection.get(&format!("/cart;jsessionid={number}F.web.3?x=1"), ""), "web.3");
    }
    edge.counts_affinity("followed", "", 40.0);
    // A route that nobody has is none: the next way decides.
    let by_query = connection.get("/?sid=1", "").text();
    is_at(&connection.get("/?sid=1", "Cookie: JSESSIONID=1F.signature\r\n"), &by_query);
    edge.counts_affinity("followed", "", 42.0);
    // A route of a backend that left: its session is lost, for all of its requests to the same place.
    let lost: Vec<String> =
        (0..4).map(|_| connection.get("/", "Cookie: JSESSIONID=1F.t9\r\n").text()).collect();
    assert!(lost.iter().all(|home| *home == lost[0]), "{lost:?}");
    edge.counts_affinity("moved", "removed", 4.0);
}

#[test]
fn a_client_is_brought_to_the_same_stand_in_while_its_home_is_away_and_back_then() {
    let backends = three();
    let edge = edge("identify_by: [{ header: X-Session-Id }]", &backends);
    let header = at_home(&edge, "web.2");
    edge.counts("homing_backend_bound_clients{app=\"shop\",backend=\"web.2\"}", {
        let homes = homes(&edge, 20);
        f64::from(u16::try_from(homes.values().filter(|home| *home == "web.2").count()).unwrap())
    });
    backends[1].set_healthy(false);
    edge.wait_for("web.2", "closed");
    let stand_in = edge.client().get("/", &header).text();
    assert_ne!(stand_in, "web.2");
    (0..4).for_each(|_| is_at(&edge.client().get("/", &header), &stand_in));
    edge.counts_affinity("borrowed", "unhealthy", 5.0);
    let others = [&backends[0], &backends[2]];
    let other = others.into_iter().find(|backend| backend.id() != stand_in).unwrap();
    other.set_healthy(false);
    edge.wait_for(other.id(), "closed");
    is_at(&edge.client().get("/", &header), &stand_in);
    backends[1].set_healthy(true);
    edge.wait_for("web.2", "open");
    is_at(&edge.client().get("/", &header), "web.2");
    edge.counts_affinity("borrowed", "unhealthy", 6.0);
}

#[test]
fn a_home_that_refuses_a_connection_is_stood_in_for_at_once() {
    let backends = three();
    let settings = "    health: { path: /healthz, interval: 1h }\n    affinity: { identify_by: [{ header: X-Session-Id }] }\n";
    let edge = Edge::start(&shop(settings, &backends.iter().collect::<Vec<_>>()));
    let header = at_home(&edge, "web.3");
    backends[2].stop();
    let response = edge.client().get("/", &header);
    assert!(response.status == 200 && response.text() != "web.3", "{response:?}");
    edge.counts_affinity("borrowed", "connect_failed", 1.0);
}

#[test]
fn a_drain_keeps_those_who_are_known_there_until_its_deadline() {
    let backends = three();
    let edge = edge("identify_by: [cookie, { header: X-Session-Id }]", &backends);
    let header = at_home(&edge, "web.1");
    edge.command(&["drain", "shop/web.1"]).is_done("");
    edge.wait_for("web.1", "pinned_only");
    let draining = edge.client().get("/", &header);
    is_at(&draining, "web.1");
    assert!(draining.token().is_none(), "no new pin to a backend that drains");
    edge.command(&["drain", "shop/web.1", "--deadline", "1s"]).is_done("");
    edge.wait_for("web.1", "closed");
    let moved = edge.client().get("/", &header);
    assert!(moved.status == 200 && moved.text() != "web.1" && moved.token().is_none(), "{moved:?}");
    edge.counts_affinity("borrowed", "drain_deadline", 1.0);
    edge.command(&["ready", "shop/web.1"]).is_done("");
    edge.wait_for("web.1", "open");
    let back = edge.client().get("/", &header);
    is_at(&back, "web.1");
    assert!(back.token().is_some());
}

#[test]
fn an_app_may_prefer_an_error_to_a_stand_in_or_wait_for_the_home() {
    let backends = three();
    let edge = edge("on_unavailable: strict, identify_by: [{ header: X-Session-Id }]", &backends);
    let header = at_home(&edge, "web.1");
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
    let refused = edge.client().get("/", &header);
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("N10")));
    edge.counts_affinity("refused", "unhealthy", 1.0);
    edge.rewrite("on_unavailable: strict", "on_unavailable: wait, wait_limit: 1h");
    edge.counts("homing_config_generation", 2.0);
    let address = edge.address();
    let waiting = std::thread::spawn(move || {
        crate::harness::Client::connect(address).get("/", &header).text()
    });
    eventually("it waits", || {
        (edge.metric("homing_http_requests_in_flight{app=\"shop\"}") > 0.5).then_some(())
    });
    backends[0].set_healthy(true);
    assert_eq!(waiting.join().unwrap(), "web.1");
}

#[test]
fn a_restart_a_reload_and_another_list_move_only_those_they_must() {
    const CLIENTS: usize = 200;
    let backends = three();
    let more = Backend::named("web.4");
    let mut edge = edge("identify_by: [{ header: X-Session-Id }]", &backends);
    let before = homes(&edge, CLIENTS);
    edge.command(&["restart"]).is_done("serves");
    edge.find_addresses();
    assert_eq!(homes(&edge, CLIENTS), before, "a restart moves nobody");
    edge.reload_with("interval: 100ms", "interval: 101ms");
    assert_eq!(homes(&edge, CLIENTS), before, "a reload moves nobody");

    let joining =
        format!("    backends:\n      - {{ id: web.4, address: \"{}\" }}\n", more.address());
    let plan = edge.directory().join("next.yaml");
    let source = std::fs::read_to_string(edge.file()).unwrap();
    std::fs::write(&plan, source.replace("    backends:\n", &joining)).unwrap();
    let told = crate::harness::homing(&["plan", "-c", plan.to_str().unwrap()]);
    let said = String::from_utf8(told.stdout).unwrap();
    assert!(said.contains("its share of the clients known by a hash moves"), "{said}");
    assert_eq!(told.status.code(), Some(3), "clients are moved");

    edge.reload_with("    backends:\n", &joining);
    edge.wait_for("web.4", "open");
    let four = homes(&edge, CLIENTS);
    let moved: Vec<_> = four.iter().filter(|(client, home)| before[*client] != **home).collect();
    assert!(moved.iter().all(|(_, home)| *home == "web.4"), "nobody moves but to what joined");
    assert!((25..80).contains(&moved.len()), "a quarter of {CLIENTS}: {}", moved.len());
    edge.reload_with(&joining, "    backends:\n");
    assert_eq!(homes(&edge, CLIENTS), before, "and back");

    let first = format!("      - {{ id: web.1, address: \"{}\" }}\n", backends[0].address());
    edge.reload_with(&first, "");
    let two = homes(&edge, CLIENTS);
    for (client, home) in &before {
        assert!(home == "web.1" || two[client] == *home, "only clients of what left move");
    }
    assert!(two.values().all(|home| home != "web.1"));
}

#[test]
fn explain_says_how_a_client_is_known_and_why() {
    let backends = three();
    let ways = "identify_by: [cookie, { header: X-Session-Id }, { query: sid }, { session_cookie: S }, address]";
    let edge = edge(ways, &backends);
    let header = at_home(&edge, "web.2");
    let asked = ["explain", "--host", "a.example", "--header", header.trim()];
    let told = edge.command(&asked);
    told.is_done("cookie       none of the name `homing-affinity`");
    told.is_done("known by     header x-session-id: decides; it gets our cookie as well");
    told.is_done("home         web.2 at ");
    told.is_done("decision     to web.2, where what it is known by leads");
    told.is_done("outcome      followed");
    let by_query = edge.client().get("/x?sid=9", "").text();
    let told = edge.command(&["explain", "--host", "a.example", "--path", "/x?sid=9"]);
    told.is_done("known by     header x-session-id: not shown\nknown by     query sid: decides");
    told.is_done(&format!("decision     to {by_query}, where"));
    let named = ["explain", "--host", "a.example", "--header", "Cookie: S=4F.web.3"];
    edge.command(&named).is_done("known by     session_cookie S: decides");
    edge.command(&named).is_done("decision     to web.3, where");
    let from_here = edge.get("/").text();
    let told = edge.command(&["explain", "--host", "a.example", "--address", "127.0.0.1"]);
    told.is_done("known by     address: decides");
    told.is_done(&format!("decision     to {from_here}, where"));
    edge.command(&["explain", "--host", "a.example", "--header", "bad"])
        .is_refused(1, &["`bad` is no header"]);
    edge.command(&["explain", "--host", "a.example", "--path", "x"])
        .is_refused(1, &["`x` is no path"]);
}

#[test]
fn a_pin_of_before_is_followed_when_more_ways_are_added() {
    let backends = three();
    let edge = edge("identify_by: [cookie]", &backends);
    let mut jar = Jar::default();
    let home = jar.get(edge.address(), "/").text();
    edge.reload_with("[cookie]", "[cookie, { header: X-Session-Id }, address]");
    is_at(&jar.get(edge.address(), "/"), &home);
    edge.counts_affinity("followed", "", 1.0);
}
