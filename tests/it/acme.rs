//! Certificates from a real ACME server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::harness::{Backend, Edge, Jar, Pebble, QUICK, eventually, shell, shop, write_key};

const ISSUED: &str = "homing_acme_orders_total{outcome=\"issued\"}";
const FAILED: &str = "homing_acme_orders_total{outcome=\"failed\"}";

const PLAIN: &str = "{ address: \"127.0.0.1:0\" }";

/// An edge with these listeners and its server, which looks for answers at the first and the last of them.
fn certified(mut pebble: Pebble, settings: &str, listeners: &str) -> (Backend, Edge, Pebble) {
    let backend = Backend::named("web.1");
    let head = format!("listeners: [{listeners}]\n{}", pebble.section(settings));
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    let addresses = edge.addresses();
    pebble.looks_at(addresses[0], addresses[addresses.len() - 1]);
    pebble.start();
    (backend, edge, pebble)
}

fn tls(names: &str) -> String {
    format!("{{ address: \"127.0.0.1:0\", tls: {{ acme: [{names}] }} }}")
}

/// What the status says of a name.
fn standing(edge: &Edge, name: &str) -> Option<Value> {
    let status: Value = serde_json::from_slice(&edge.ask("/status").body).unwrap();
    status["certificates"].as_array()?.iter().find(|one| one["name"] == name).cloned()
}

fn expires(edge: &Edge, name: &str) -> Option<u64> {
    standing(edge, name)?["expires"].as_u64()
}

/// Where the files of the server are kept.
fn kept(edge: &Edge) -> PathBuf {
    let all = fs::read_dir(edge.directory().join("state/acme")).unwrap().flatten();
    all.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap()
}

#[test]
fn a_certificate_is_had_by_http_01() {
    if !Pebble::is_installed() {
        return;
    }
    let listeners = format!("{PLAIN}, {}", tls("shop.example.com"));
    let settings = ", challenges: [http-01], contact: [\"mailto:admin@example.com\"]";
    let (_backend, edge, _pebble) = certified(Pebble::new(), settings, &listeners);
    eventually("a certificate", || expires(&edge, "shop.example.com"));
    assert_eq!(edge.metric(ISSUED), 1.0);
    let directory = kept(&edge);
    for file in ["account.json", "orders.json", "certificates/shop.example.com.pem"] {
        let mode = fs::metadata(directory.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let nothing = edge.get("/.well-known/acme-challenge/abc");
    assert_eq!(nothing.status, 200, "what is not ours goes to the app");
}

/// What a client of TLS sees that asks for a name and says some lines.
fn ask_over_tls(edge: &Edge, listener: usize, name: &str, options: &str) -> String {
    let address = edge.addresses()[listener];
    let host = if name.is_empty() { "shop.example.com" } else { name };
    let request = format!("GET / HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n");
    let name = if name.is_empty() { String::new() } else { format!("-servername {name}") };
    let line = format!(
        "printf '{request}' | timeout 20 openssl s_client -ign_eof -connect {address} {name} {options} 2>&1"
    );
    shell(&line, edge.directory()).out
}

/// The certificate that is kept for a name.
fn leaf(edge: &Edge, name: &str) -> String {
    let path = kept(edge).join("certificates").join(format!("{name}.pem"));
    let all = fs::read_to_string(path).unwrap();
    let begin = all.find("-----BEGIN CERTIFICATE-----").unwrap();
    let end = "-----END CERTIFICATE-----";
    all[begin..].split_inclusive(end).next().unwrap().to_owned()
}

#[test]
fn a_certificate_is_had_by_tls_alpn_01_and_shown_to_who_asks_for_its_name() {
    if !Pebble::is_installed() {
        return;
    }
    let backend = Backend::named("web.1");
    let mut pebble = Pebble::new();
    let head = format!(
        "listeners: [{}]\n{}",
        tls("shop.example.com, www.example.com"),
        pebble.section(", challenges: [tls-alpn-01]")
    );
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    let before = ask_over_tls(&edge, 0, "shop.example.com", "");
    assert!(before.contains("unrecognized name"), "{before}");
    pebble.looks_at(edge.address(), edge.address());
    pebble.start();
    for name in ["shop.example.com", "www.example.com"] {
        eventually("a certificate", || expires(&edge, name));
        let seen = ask_over_tls(&edge, 0, name, "");
        assert!(seen.contains(&leaf(&edge, name)) && seen.contains("HTTP/1.1 200"), "{seen}");
    }
    let nameless = ask_over_tls(&edge, 0, "", "-noservername");
    assert!(nameless.contains(&leaf(&edge, "shop.example.com")), "{nameless}");
    let other = ask_over_tls(&edge, 0, "other.example.com", "");
    assert!(other.contains("unrecognized name"), "{other}");
    let challenge = ask_over_tls(&edge, 0, "shop.example.com", "-alpn acme-tls/1");
    assert!(challenge.contains("no application protocol"), "no order is under way: {challenge}");
    // Counted also where no certificate comes from a file.
    edge.counts("homing_tls_handshake_failures_total{reason=\"no_protocol\"}", 1.0);
    assert!(edge.metric("homing_tls_handshakes_total{version=\"1.3\",resumed=\"no\"}") >= 3.0);
}

#[test]
fn certificates_are_had_in_a_thread_of_their_own() {
    let unreachable =
        "acme: { directory: \"https://127.0.0.1:1/dir\", terms_of_service_agreed: true }\n";
    let backend = Backend::named("web.1");
    let head = format!("listeners: [{PLAIN}, {}]\n{unreachable}", tls("shop.example.com"));
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    let names = || -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", edge.worker())).unwrap().flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect()
    };
    // Files that are slow to read and to write keep neither probes nor deadlines waiting.
    eventually("both threads", || {
        let names = names();
        let has = |name: &str| names.iter().any(|comm| comm.trim_end() == name);
        (has("BG control") && has("BG certificates")).then_some(())
    });
}

#[test]
fn a_name_that_is_taken_out_and_put_back_is_tried_at_once() {
    if !Pebble::is_installed() {
        return;
    }
    let backend = Backend::named("web.1");
    let mut pebble = Pebble::new();
    let section = pebble.section(", challenges: [http-01]").replace("after: 1s", "after: 1h");
    let both = tls("shop.example.com, www.example.com");
    let edge = Edge::start_with(
        &format!("listeners: [{PLAIN}, {both}]\n{section}"),
        &shop(QUICK, &[&backend]),
    );
    pebble.looks_at(edge.addresses()[0], edge.addresses()[1]);
    let failed = || -> Option<usize> {
        let journal = fs::read(kept(&edge).join("orders.json")).ok()?;
        let journal: Value = serde_json::from_slice(&journal).ok()?;
        Some(journal["failed"].as_object()?.len())
    };
    let one = "www.example.com";
    for name in ["shop.example.com", one] {
        eventually("a failure", || {
            standing(&edge, name).filter(|standing| standing["failures"] == 1)
        });
    }
    assert_eq!(failed(), Some(2));
    pebble.start();
    edge.reload_with("shop.example.com, www.example.com", one);
    eventually("the failure is forgotten", || (failed() == Some(1)).then_some(()));
    edge.reload_with(one, "shop.example.com, www.example.com");
    eventually("a certificate", || expires(&edge, "shop.example.com"));
    assert_eq!(standing(&edge, one).unwrap()["failures"], 1, "it waits");
}

#[test]
fn after_a_failure_the_other_challenge_is_tried() {
    if !Pebble::is_installed() {
        return;
    }
    let backend = Backend::named("web.1");
    let mut pebble = Pebble::new();
    let listener = "{ address: \"127.0.0.1:0\", tls: { acme: on } }";
    let section = pebble.section(", challenges: [http-01, tls-alpn-01]");
    let apps = shop(QUICK, &[&backend]).replace(
        "- name: shop\n",
        "- name: shop\n    domains: [shop.example.com, \"*.example.com\"]\n",
    );
    let edge = Edge::start_with(&format!("listeners: [{listener}]\n{section}"), &apps);
    let nobody = SocketAddr::from(([127, 0, 0, 1], pebble.http_port()));
    pebble.looks_at(nobody, edge.address());
    pebble.start();
    eventually("a certificate", || expires(&edge, "shop.example.com"));
    let log = edge.log();
    assert!(log.iter().any(|line| line.contains("http-01 failed")), "{log:?}");
    let seen = ask_over_tls(&edge, 0, "shop.example.com", "");
    assert!(seen.contains(&leaf(&edge, "shop.example.com")), "{seen}");
}

#[test]
fn a_certificate_is_renewed_before_it_expires() {
    if !Pebble::is_installed() {
        return;
    }
    let pebble = Pebble::new().option("certificateValidityPeriod", 12);
    let listeners = format!("{PLAIN}, {}", tls("shop.example.com"));
    let (_backend, edge, _pebble) = certified(pebble, ", challenges: [http-01]", &listeners);
    let first = eventually("a certificate", || expires(&edge, "shop.example.com"));
    // The first try may have come before the server.
    let failed = edge.metric(FAILED);
    let standing = standing(&edge, "shop.example.com").unwrap();
    let next = standing["next_order"].as_u64().unwrap();
    assert!((first - 12..first).contains(&next), "{standing}");
    let shown = leaf(&edge, "shop.example.com");
    eventually("another one, before the first expires", || {
        expires(&edge, "shop.example.com").filter(|expires| *expires > first)
    });
    let seen = ask_over_tls(&edge, 1, "shop.example.com", "");
    assert!(!seen.contains(&shown) && seen.contains("HTTP/1.1 200"), "{seen}");
    assert!(edge.metric(ISSUED) >= 2.0);
    assert_eq!(edge.metric(FAILED), failed, "{:?}", edge.log());
}

#[test]
fn a_certificate_is_renewed_when_its_server_suggests_it_and_the_order_says_which_one_it_replaces() {
    if !Pebble::is_installed() {
        return;
    }
    // By itself it would be renewed after half a minute.
    let pebble = Pebble::new().option("certificateValidityPeriod", 48);
    let (pebble, seen) = pebble.suggesting();
    let listeners = format!("{PLAIN}, {}", tls("shop.example.com"));
    let (_backend, edge, _pebble) = certified(pebble, ", challenges: [http-01]", &listeners);
    let first = eventually("a certificate", || expires(&edge, "shop.example.com"));
    let second = eventually("another one", || {
        expires(&edge, "shop.example.com").filter(|expires| *expires > first)
    });
    assert!(second < first + 20, "{first} {second}");
    // The next one is to come in a hundred years, and comes before this one expires.
    eventually("the server is asked for the second one", || {
        let next = standing(&edge, "shop.example.com")?["next_order"].as_u64()?;
        (second - 8..second).contains(&next).then_some(())
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.replaced, seen.asked[..1]);
    assert_ne!(seen.asked[0], seen.asked[1]);
}

#[test]
fn a_certificate_outlives_every_process() {
    if !Pebble::is_installed() {
        return;
    }
    let listeners = format!("{PLAIN}, {}", tls("shop.example.com"));
    let settings = ", challenges: [http-01]";
    let (_backend, mut edge, _pebble) = certified(Pebble::new(), settings, &listeners);
    let first = eventually("a certificate", || expires(&edge, "shop.example.com"));
    edge.command(&["restart"]).is_done("serves");
    edge.find_addresses();
    assert_eq!(expires(&edge, "shop.example.com"), Some(first));
    assert_eq!(edge.metric(ISSUED), 1.0, "the successor counts on");
    edge.stop_and_start();
    let seen = ask_over_tls(&edge, 1, "shop.example.com", "");
    assert!(seen.contains(&leaf(&edge, "shop.example.com")), "{seen}");
    assert_eq!(expires(&edge, "shop.example.com"), Some(first));
    let journal = fs::read_to_string(kept(&edge).join("orders.json")).unwrap();
    let journal: Value = serde_json::from_str(&journal).unwrap();
    assert_eq!(journal["orders"].as_array().unwrap().len(), 1, "{journal}");
}

#[test]
fn an_order_that_fails_is_told_with_what_to_do_and_tried_again_more_and_more_rarely() {
    if !Pebble::is_installed() {
        return;
    }
    let mut pebble = Pebble::new();
    let port = pebble.http_port();
    let backend = Backend::named("web.1");
    let head = format!(
        "listeners: [{}]\n{}",
        tls("shop.example.com"),
        pebble.section(", challenges: [http-01]")
    );
    let mut edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    pebble.start();
    let standing = eventually("three failures", || {
        standing(&edge, "shop.example.com").filter(|one| one["failures"].as_u64() >= Some(3))
    });
    assert!(standing.get("expires").is_none(), "{standing}");
    let status = edge.command(&["status"]).out;
    let line =
        status.lines().find(|line| line.starts_with("certificate of shop.example.com: none"));
    assert!(line.is_some_and(|line| line.contains("http-01 failed")), "{status}");
    assert!(edge.metric(FAILED) >= 3.0);
    let log = edge.log();
    let failures: Vec<&String> = log
        .iter()
        .filter(|line| line.contains("no certificate") && line.contains("http-01 failed"))
        .collect();
    let pause = |line: &String| -> u64 {
        let pause = line.split("retry_s=").nth(1).unwrap().split(' ').next().unwrap();
        pause.parse().unwrap()
    };
    assert!(failures.iter().all(|line| line.contains("help=") && line.contains("port 80")));
    assert!(failures.windows(2).all(|two| pause(two[0]) < pause(two[1])), "{failures:?}");
    edge.rewrite("listeners: [", &format!("listeners: [{{ address: \"127.0.0.1:{port}\" }}, "));
    edge.command(&["restart"]).is_done("serves");
    edge.find_addresses();
    eventually("a certificate", || expires(&edge, "shop.example.com"));
    let error = self::standing(&edge, "shop.example.com").unwrap().get("error").cloned();
    assert_eq!(error, None);
}

#[test]
fn an_order_that_is_under_way_is_taken_up_by_the_successor() {
    if !Pebble::is_installed() {
        return;
    }
    // Where the server looks: a gate that lets its questions through when the successor serves.
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = Backend::named("web.1");
    let mut pebble = Pebble::new();
    let head = format!(
        "listeners: [{PLAIN}, {}]\n{}",
        tls("shop.example.com"),
        pebble.section(", challenges: [http-01]")
    );
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    pebble.looks_at(gate.local_addr().unwrap(), edge.addresses()[1]);
    pebble.start();
    let question = gate.accept().unwrap().0;
    edge.command(&["restart"]).is_done("serves");
    let address = edge.address();
    let ask = move |question: TcpStream| {
        let head = BufReader::new(&question).lines().next().unwrap().unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let token = path.rsplit('/').next().unwrap();
        let answer = eventually("the successor answers", || {
            let answer = Jar::default().get(address, &path).text();
            answer.starts_with(&format!("{token}.")).then_some(answer)
        });
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        (&question).write_all(format!("{head}{answer}").as_bytes()).unwrap();
    };
    ask(question);
    // The server asks from several places.
    thread::spawn(move || gate.incoming().flatten().for_each(ask));
    eventually("a certificate", || expires(&edge, "shop.example.com"));
    assert_eq!(edge.metric(ISSUED), 1.0);
    assert!(edge.log().iter().any(|line| line.contains("an order is taken up again")));
    let journal = fs::read_to_string(kept(&edge).join("orders.json")).unwrap();
    let journal: Value = serde_json::from_str(&journal).unwrap();
    assert_eq!(journal["orders"].as_array().unwrap().len(), 1, "{journal}");
    assert_eq!(journal["pending"], Value::Null);
}

#[test]
fn a_server_that_knows_its_clients_is_told_which_one_this_is() {
    if !Pebble::is_installed() {
        return;
    }
    let secret = URL_SAFE_NO_PAD.encode([7; 32]);
    let keys = serde_json::json!({ "kid-1": secret });
    let pebble = Pebble::new()
        .option("externalAccountBindingRequired", true)
        .option("externalAccountMACKeys", keys);
    let file = pebble.path("eab.key");
    write_key(&file, &format!("{secret}\n"));
    let settings = format!(
        ", challenges: [http-01], external_account: {{ id: kid-1, key: {{ file: \"{}\" }} }}",
        file.display()
    );
    let listeners = format!("{PLAIN}, {}", tls("shop.example.com"));
    let (_backend, edge, _pebble) = certified(pebble, &settings, &listeners);
    eventually("a certificate", || expires(&edge, "shop.example.com"));
}
