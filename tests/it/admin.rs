//! What Prometheus, a supervisor and the operator ask.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::harness::{Authority, Backend, Edge, Launch, QUICK, Reply, shop};

/// Every metric that docs/metrics.md names.
fn documented() -> BTreeSet<String> {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names
        .filter(|name| name.starts_with("homing_"))
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect()
}

fn busy() -> (Backend, Edge) {
    let backend = Backend::new("web.1", |_, _| Reply::ok("web.1"));
    // What has metrics only where it is on.
    let settings = "    affinity: { adopt: [{ cookie: route, format: nginx }] }\n    outliers: on\n    panic: { then: spread }\n";
    let any = "address: \"127.0.0.1:0\"";
    let tls = "certificates: [{ certificate: site.pem, key: site.key }], acme: [a.example.com]";
    let head = format!(
        "listeners: [{{ {any} }}, {{ {any}, tls: {{ {tls} }} }}]
acme: {{ directory: \"https://127.0.0.1:1/\", terms_of_service_agreed: true }}
"
    );
    let launch = Launch::new(&head, &shop(&format!("{QUICK}{settings}"), &[&backend]));
    Authority::new("root").issue(&["shop.example.com"]).write(launch.directory(), "site");
    let edge = launch.start_ready();
    edge.get("/");
    // A request is counted a moment after its answer was read.
    edge.counts_affinity("made", "", 1.0);
    (backend, edge)
}

#[test]
fn the_documented_metrics_are_those_that_exist() {
    let (_backend, edge) = busy();
    let text = edge.ask("/metrics").text();
    let help = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let existing: BTreeSet<String> =
        help.filter(|name| name.starts_with("homing_")).map(ToOwned::to_owned).collect();
    assert_eq!(existing, documented());
    assert!(
        text.contains("process_cpu_seconds_total")
            && text.contains("process_resident_memory_bytes")
    );
}

#[test]
fn the_metrics_of_the_contract_have_their_labels() {
    let (_backend, edge) = busy();
    edge.counts("homing_http_requests_in_flight{app=\"shop\"}", 0.0);
    edge.counts("homing_backend_bound_clients{app=\"shop\",backend=\"web.1\"}", 1.0);
    edge.counts("homing_http_requests_total{app=\"shop\",status=\"200\",failure=\"\"}", 1.0);
    let text = edge.ask("/metrics").text();
    for series in [
        "homing_http_requests_total{app=\"shop\",status=\"200\",failure=\"\"} 1",
        "homing_http_request_duration_seconds_count{app=\"shop\"} 1",
        "homing_http_request_duration_seconds_bucket{app=\"shop\",le=\"+Inf\"} 1",
        "homing_affinity_requests_total{app=\"shop\",outcome=\"made\",cause=\"\"} 1",
        "homing_backend_requests_in_flight{app=\"shop\",backend=\"web.1\"} 0",
        "homing_backend_admission{app=\"shop\",backend=\"web.1\",admission=\"open\"} 1",
        "homing_health_probes_total{app=\"shop\",backend=\"web.1\",result=\"failed\"} 0",
        "homing_config_generation 1",
    ] {
        assert!(text.contains(series), "{series}\n{text}");
    }
    assert!(text.contains(concat!(
        "homing_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"} 1"
    )));
}

/// Where Prometheus's own tool is installed (tools/setup.sh does), it has the last word.
#[test]
fn promtool_finds_nothing_to_say() {
    let (_backend, edge) = busy();
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    let own: Vec<String> = edge
        .ask("/metrics")
        .text()
        .lines()
        .filter(|line| line.contains("homing_"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), own.concat().as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_status_page_shows_apps_and_backends() {
    let (_backend, edge) = busy();
    let status: serde_json::Value = serde_json::from_slice(&edge.ask("/status").body).unwrap();
    assert_eq!(status["generation"], 1);
    let app = &status["apps"][0];
    assert_eq!((app["name"].as_str(), app["pins_made"].as_u64()), (Some("shop"), Some(1)));
    let backend = &app["backends"][0];
    assert_eq!(
        (backend["id"].as_str(), backend["health"].as_str()),
        (Some("web.1"), Some("healthy"))
    );
    assert_eq!(
        (backend["bound_clients"].as_u64(), backend["streams"].as_u64()),
        (Some(1), Some(0))
    );
    assert_eq!(backend["last_probe"]["result"], "passed");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let (_backend, edge) = busy();
    assert_eq!(edge.ask("/healthz").text(), "ok\n");
    assert_eq!(edge.ask("/readyz").text(), "ready\n");
    assert_eq!(edge.ask("/nothing").status, 404);
}

#[test]
fn requests_in_flight_are_seen_while_they_last() {
    let (send, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::new("web.1", move |_, _| {
        let _told = wait.lock().unwrap().recv_timeout(crate::harness::PATIENCE);
        Reply::ok("")
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let series = "homing_backend_requests_in_flight{app=\"shop\",backend=\"web.1\"}";
    crate::harness::eventually(series, || (edge.metric(series) > 0.5).then_some(()));
    send.send(()).unwrap();
    assert_eq!(client.read().status, 200);
    crate::harness::eventually(series, || (edge.metric(series) < 0.5).then_some(()));
}
