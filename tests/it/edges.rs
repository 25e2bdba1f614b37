//! Several edges that share keys and nothing else agree on where clients are.

use crate::harness::{Backend, Edge, Jar, QUICK, eventually, shop, write_key};

const NEXT: &str = "another secret of the tests, long enough for a key";

/// A backend as a line of the file.
fn line(backend: &Backend) -> String {
    format!("      - {{ id: {}, address: \"{}\" }}\n", backend.id(), backend.address())
}

/// A client of the backend `id`, pinned by this edge.
#[track_caller]
fn client_of(id: &str, edge: &Edge) -> Jar {
    eventually(&format!("a client of {id}"), || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == id).then_some(jar)
    })
}

#[test]
fn a_rotation_step_by_step_on_one_edge_after_another_moves_nobody() {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let file = shop(QUICK, &backends.each_ref());
    let edges = [(); 2].map(|()| Edge::start(&file));
    let mut clients: Vec<(Jar, String)> = (0..8)
        .map(|number| {
            let mut jar = Jar::default();
            let home = jar.get(edges[number % 2].address(), "/").text();
            (jar, home)
        })
        .collect();
    let steps = [
        "[{ file: key }]",
        "[{ file: key }, { file: next }]",
        "[{ file: next }, { file: key }]",
        "[{ file: next }]",
    ];
    edges.iter().for_each(|edge| write_key(&edge.directory().join("next"), NEXT));
    for pair in steps.windows(2) {
        for edge in &edges {
            edge.reload_with(pair[0], pair[1]);
            for (jar, home) in &mut clients {
                for edge in edges.iter().chain(edges.iter().rev()) {
                    assert_eq!(jar.get(edge.address(), "/").text(), *home, "after {pair:?}");
                }
            }
        }
    }
    for edge in &edges {
        let text = edge.ask("/metrics").text();
        let moved =
            text.lines().find(|line| line.contains("outcome=\"moved\"") && !line.ends_with(" 0"));
        assert_eq!(moved, None);
    }
}

#[test]
fn a_backend_that_one_edge_has_not_heard_of_is_stood_in_for_and_keeps_its_clients() {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let [a, b, c] = &backends;
    let edges = [(); 3].map(|()| Edge::start(&shop(QUICK, &[a, b])));
    let [first, second, third] = &edges;
    let (old, new) = (line(b), line(b) + &line(c));
    first.reload_with(&old, &new);
    first.wait_for("web.3", "open");
    let mut clients: Vec<Jar> = (0..4).map(|_| client_of("web.3", first)).collect();
    let stand_ins: Vec<String> = clients
        .iter_mut()
        .map(|jar| {
            let lent = jar.get(second.address(), "/");
            assert_eq!((lent.status, lent.token()), (200, None), "the pin stays");
            for edge in [third, second, third] {
                assert_eq!(jar.get(edge.address(), "/").text(), lent.text(), "one stand-in");
                assert_eq!(jar.get(first.address(), "/").text(), "web.3");
            }
            lent.text()
        })
        .collect();
    second.counts_affinity("borrowed", "removed", 8.0);
    let cookie = clients[0].header();
    let value = cookie.trim_end().split_once('=').unwrap().1;
    let why = second.command(&["explain", "--host", "a.example", "--cookie", value]);
    why.is_done("may be on a newer list of another edge");
    why.is_done("outcome      borrowed, cause removed");
    // The list reaches the second edge, by the way of a restart.
    second.rewrite(&old, &new);
    second.command(&["restart"]).is_done("serves");
    second.wait_for("web.3", "open");
    for (jar, stand_in) in clients.iter_mut().zip(&stand_ins) {
        assert_eq!(jar.get(second.address(), "/").text(), "web.3");
        assert_eq!(jar.get(third.address(), "/").text(), *stand_in);
    }
    // The backend leaves, on one edge first: its clients go where they were lent to, and stay there.
    second.reload_with(&new, &old);
    second.command(&["restart"]).is_done("serves");
    for (jar, stand_in) in clients.iter_mut().zip(&stand_ins) {
        let moved = jar.get(second.address(), "/");
        assert!(moved.token().is_some() && moved.text() == *stand_in, "{moved:?}");
        for edge in &edges {
            assert_eq!(jar.get(edge.address(), "/").text(), *stand_in);
        }
    }
    second.counts_affinity("moved", "removed", 4.0);
}

#[test]
fn a_pin_that_is_lent_is_sealed_anew_and_stays() {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let [a, b, c] = &backends;
    let edges = [(); 2].map(|()| Edge::start(&shop(QUICK, &[a, b])));
    let [first, second] = &edges;
    first.reload_with(&line(b), &(line(b) + &line(c)));
    first.wait_for("web.3", "open");
    let mut jar = client_of("web.3", first);
    for edge in &edges {
        write_key(&edge.directory().join("next"), NEXT);
        edge.reload_with("[{ file: key }]", "[{ file: key }, { file: next }]");
    }
    second.reload_with("[{ file: key }, { file: next }]", "[{ file: next }, { file: key }]");
    let lent = jar.get(second.address(), "/");
    assert!(lent.token().is_some() && lent.text() != "web.3", "{lent:?}");
    let again = jar.get(second.address(), "/");
    assert_eq!((again.text(), again.token()), (lent.text(), None));
    assert_eq!(jar.get(first.address(), "/").text(), "web.3");
}

#[test]
fn a_run_that_one_edge_has_not_heard_of_is_followed_and_not_written_over() {
    let backends = ["web.1", "web.2"].map(Backend::named);
    let edges = [(); 2].map(|()| Edge::start(&shop(QUICK, &backends.each_ref())));
    let [first, second] = &edges;
    first.reload_with("{ id: web.1,", "{ id: web.1, incarnation: v2,");
    let mut jar = client_of("web.1", first);
    for edge in [second, first, second, first] {
        let response = jar.get(edge.address(), "/");
        assert_eq!((response.text().as_str(), response.token()), ("web.1", None));
    }
    // One of the run that is over is moved by who knows, and lost by nobody else.
    let mut former = client_of("web.1", second);
    let moved = former.get(first.address(), "/");
    assert!(moved.token().is_some(), "{moved:?}");
    first.counts_affinity("moved", "new_incarnation", 1.0);
    for edge in [second, first, second] {
        let response = former.get(edge.address(), "/");
        assert_eq!((response.text(), response.token()), (moved.text(), None));
    }
}
