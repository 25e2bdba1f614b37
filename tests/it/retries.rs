//! Requests are tried again within a budget, so that an app in trouble is not asked even more.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Backend, Edge, Jar, Reply, Response, eventually, shop};

const NONE_LEFT: &str = "{ budget_percent: 0, min_per_second: 0 }";

fn retries(result: &str) -> String {
    format!("homing_retries_total{{app=\"shop\",result=\"{result}\"}}")
}

/// What the client of a backend gets that refuses connections since a moment; the other one does not.
fn refused(settings: &str) -> ([Backend; 2], Edge, Response) {
    // No connection is kept: the next request meets a backend that refuses.
    let backends = ["web.1", "web.2"]
        .map(|id| Backend::new(id, move |_, _| Reply::with("200 OK", "Connection: close\r\n", id)));
    let settings = format!("    health: off\n{settings}");
    let log = "access_log: { format: json }\n";
    let edge = Edge::start_with(log, &shop(&settings, &backends.each_ref()));
    let mut jar = eventually("a client of web.1", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == "web.1").then_some(jar)
    });
    backends[0].stop();
    let response = jar.get(edge.address(), "/");
    (backends, edge, response)
}

/// The line of the access log about the failed connect.
fn line(edge: &Edge) -> Value {
    let refused = |line: &String| line.contains("\"code\":\"H21\"");
    let line = eventually("its line", || edge.out().into_iter().find(refused));
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_failed_connect_is_tried_elsewhere_and_counted() {
    let (_backends, edge, response) = refused("");
    assert_eq!((response.status, response.text().as_str()), (200, "web.2"));
    edge.counts(&retries("allowed"), 1.0);
    edge.counts(&retries("denied"), 0.0);
}

#[test]
fn without_budget_the_first_failure_is_what_the_client_gets() {
    let (_backends, edge, response) = refused(&format!("    retries: {NONE_LEFT}\n"));
    let error = response.header("x-homing-error");
    assert_eq!((response.status, error), (503, Some("H21")));
    edge.wait_for("web.1", "closed");
    assert_eq!(edge.get("/").text(), "web.2", "a first try needs no budget");
    edge.counts(&retries("denied"), 1.0);
    edge.counts(&retries("allowed"), 0.0);
    assert_eq!(line(&edge)["detail"], "retry budget spent");
}

#[test]
fn retries_that_are_switched_off_need_no_budget() {
    let (_backends, edge, response) = refused("    retries: off\n");
    assert_eq!((response.status, response.header("x-homing-error")), (503, Some("H21")));
    edge.counts(&retries("denied"), 0.0);
    assert_eq!(line(&edge)["detail"], Value::Null);
}

/// A backend that closes each connection instead of answering its second request.
fn closing() -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::new("web.1", move |_, _| match asked.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Reply::ok("web.1"),
        _ => Reply::Done,
    })
}

#[test]
fn a_kept_connection_that_was_just_closed_needs_budget_too() {
    for (settings, status, result) in [("on", 200, "allowed"), (NONE_LEFT, 503, "denied")] {
        let backend = closing();
        let settings = format!("    health: off\n    retries: {settings}\n");
        let edge = Edge::start(&shop(&settings, &[&backend]));
        // A connection is mostly, but not always, kept by the time of the next request.
        let met = eventually("a kept connection that is closed is met", || {
            let response = edge.get("/");
            (edge.metric(&retries(result)) > 0.5).then_some(response)
        });
        let error = (status == 503).then_some("H13");
        assert_eq!((met.status, met.header("x-homing-error")), (status, error));
    }
}

#[test]
fn a_retry_has_its_own_time_to_connect() {
    // The second request of a connection takes longer than connecting may, and then there is no connection any more.
    let asked = AtomicUsize::new(0);
    let backend = Backend::new("web.1", move |_, _| {
        if asked.fetch_add(1, Ordering::SeqCst) == 1 {
            std::thread::sleep(std::time::Duration::from_millis(400));
            return Reply::Done;
        }
        Reply::ok("web.1")
    });
    let settings = "    health: off\n    timeouts: { connect: 200ms, connect_total: 200ms }\n";
    let edge = Edge::start(&shop(settings, &[&backend]));
    assert_eq!(edge.get("/").text(), "web.1");
    assert_eq!(edge.get("/").text(), "web.1");
    assert_eq!(backend.requests().len(), 3);
}

/// Answers one request on each connection, and resets it a moment later: after each answer a little later.
fn resetting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in (0_u32..).zip(listener.incoming().map_while(Result::ok)) {
            thread::spawn(move || {
                let (mut reader, mut line) = (BufReader::new(&stream), String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _gone = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                let end = Instant::now() + Duration::from_micros(u64::from(number % 400));
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                let _set = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            });
        }
    });
    address
}

#[test]
fn a_kept_connection_that_is_reset_as_it_is_used_again_costs_nobody_a_request() {
    let app = format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    outliers: off\n    \
         retries: {{ budget_percent: 100 }}\n    backends: [{{ id: web.1, address: \"{}\" }}]\n",
        resetting()
    );
    let edge = Edge::start(&app);
    let mut client = edge.client();
    for number in 0..4000 {
        let response = client.get("/", "");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{number}");
    }
    assert!(edge.metric(&retries("allowed")) > 0.0, "some were reset as they were used");
}
