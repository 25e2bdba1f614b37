//! A backend that just opened takes its clients little by little.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Client, Edge, Jar, Lively, eventually, shop};

fn settings(slow_start: &str) -> String {
    format!(
        "    health: {{ path: /healthz, interval: 100ms, timeout: 2s, rise: 1, fall: 1 }}\n    \
         slow_start: {slow_start}\n    timeouts: {{ admission: 1s }}\n"
    )
}

/// How much of the weight of a backend counts, in percent.
fn share(edge: &Edge, backend: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&edge.ask("/status").text()).unwrap();
    let backends = status["apps"][0]["backends"].as_array().unwrap();
    let found = backends.iter().find(|own| own["id"] == backend).unwrap();
    found["share_percent"].as_u64().unwrap()
}

#[test]
fn the_share_of_a_backend_that_opened_grows_until_it_has_all_of_it() {
    let [one, two] = ["web.1", "web.2"].map(Backend::named);
    let edge = Edge::start(&shop(&settings("2s"), &[&one, &two]));
    eventually("both have their whole share", || {
        (share(&edge, "web.1") == 100 && share(&edge, "web.2") == 100).then_some(())
    });
    two.set_healthy(false);
    edge.wait_for("web.2", "closed");
    two.set_healthy(true);
    edge.wait_for("web.2", "open");
    let mut seen = vec![share(&edge, "web.2")];
    eventually("web.2 has its whole share again", || {
        seen.push(share(&edge, "web.2"));
        (seen.last() == Some(&100)).then_some(())
    });
    assert!(seen[0] < 100 && seen[0] >= 10, "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(share(&edge, "web.1"), 100);
}

#[test]
fn pinned_clients_that_return_at_a_pace_wait_for_their_turn_and_keep_their_pins() {
    let [one, two] = ["web.1", "web.2"].map(Backend::named);
    let edge = Edge::start(&shop(&settings("{ duration: 1h, pinned: paced }"), &[&one, &two]));
    let jars: Vec<(Jar, String)> = (0..24)
        .map(|_| {
            let mut jar = Jar::default();
            let home = jar.get(edge.address(), "/").text();
            (jar, home)
        })
        .collect();
    two.set_healthy(false);
    edge.wait_for("web.2", "closed");
    two.set_healthy(true);
    edge.wait_for("web.2", "open");
    let returns = |(mut jar, home): (Jar, String)| {
        let begun = Instant::now();
        assert_eq!(jar.get(edge.address(), "/").text(), home);
        begun.elapsed() >= Duration::from_secs(1)
    };
    let waited = thread::scope(|scope| {
        let all: Vec<_> = jars.into_iter().map(|jar| scope.spawn(|| returns(jar))).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|waited| *waited).count()
    });
    // One in ten has its turn at once; that all of these have it happens once in 10^24.
    assert!(waited > 0);
    edge.counts_affinity("followed", "", 24.0);
}

#[test]
fn who_waited_for_its_turn_waits_for_a_place_too() {
    let (one, two) = (Backend::named("web.1"), Lively::named("web.2"));
    let limits = "    limits: { backend_in_flight: 1, queue_timeout: 30s }\n";
    let settings = settings("{ duration: 1h, pinned: paced }") + limits;
    let edge = Edge::start(&shop(&settings, &[&one, &two.backend]));
    let ask = |jar: &Jar, path: &str| {
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n", jar.header()));
        client
    };
    let mut jars = Vec::new();
    eventually("nine clients of web.2", || {
        let mut jar = Jar::default();
        if jar.get(edge.address(), "/").text() == "web.2" {
            jars.push(jar);
        }
        (jars.len() == 9).then_some(())
    });
    two.backend.set_healthy(false);
    edge.wait_for("web.2", "closed");
    two.backend.set_healthy(true);
    edge.wait_for("web.2", "open");
    let gauge = |what| format!("homing_backend_requests_{what}{{app=\"shop\",backend=\"web.2\"}}");
    let mut slow = ask(&jars[0], "/slow");
    edge.counts(&gauge("in_flight"), 1.0);
    let mut others: Vec<Client> = jars[1..].iter().map(|jar| ask(jar, "/")).collect();
    edge.counts(&gauge("waiting"), 8.0);
    two.gate.open();
    assert_eq!(slow.read().text(), "web.2");
    assert!(others.iter_mut().all(|client| client.read().text() == "web.2"));
}
