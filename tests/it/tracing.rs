//! Traces: `traceparent` on its way through, and spans on their way to a collector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::harness::{Backend, Edge, QUICK, Reply, eventually, shop};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that decodes what it gets.
struct Collector {
    server: Backend,
    spans: Arc<Mutex<Vec<Span>>>,
    takes: Arc<AtomicBool>,
}

impl Collector {
    fn start() -> Self {
        let (spans, takes) = (Arc::<Mutex<Vec<Span>>>::default(), Arc::new(AtomicBool::new(true)));
        let (own, may) = (Arc::clone(&spans), Arc::clone(&takes));
        let server = Backend::new("collector", move |request, _| {
            if !may.load(Ordering::SeqCst) {
                return Reply::with("503 Service Unavailable", "", "");
            }
            assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            let sent = ExportTraceServiceRequest::decode(&*request.body).unwrap();
            for resource in sent.resource_spans {
                let named = &resource.resource.as_ref().unwrap().attributes[0];
                assert_eq!(named.key, "service.name");
                own.lock().unwrap().extend(resource.scope_spans.into_iter().flat_map(|s| s.spans));
            }
            Reply::ok("")
        });
        Self { server, spans, takes }
    }

    /// The end of a configuration that sends so many percent of the requests here.
    fn settings(&self, percent: &str) -> String {
        let address = self.server.address();
        format!(
            "tracing: {{ otlp: {{ endpoint: \"http://{address}/v1/traces\", sample_percent: {percent} }} }}\n"
        )
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// The span of the request with this path, once it is here.
    #[track_caller]
    fn span(&self, path: &str) -> Span {
        let of_path = |span: &Span| text(span, "url.path").as_deref() == Some(path);
        eventually("its span", || self.spans().into_iter().find(of_path))
    }
}

fn value(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found?.value.as_ref()?.value.clone()
}

fn text(span: &Span, key: &str) -> Option<String> {
    let value = value(span, key)?;
    if let Value::IntValue(number) = value {
        return Some(number.to_string());
    }
    let Value::StringValue(text) = value else { panic!("{key} is {value:?}") };
    Some(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn logged(edge: &Edge, path: &str) -> serde_json::Value {
    let is_it = |line: &serde_json::Value| line["path"] == path;
    eventually("its line", || {
        edge.out().iter().map(|line| serde_json::from_str(line).unwrap()).find(is_it)
    })
}

#[test]
fn a_trace_is_handed_on_as_it_came_and_what_is_none_is_taken_out() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let state = "tracestate: vendor=1\r\n";
    edge.client().get("/good", &format!("traceparent: {CALLER}\r\n{state}"));
    assert_eq!(backend.last().all("traceparent"), [CALLER]);
    assert_eq!(backend.last().all("tracestate"), ["vendor=1"]);
    assert_eq!(logged(&edge, "/good")["trace_id"], TRACE);
    for (path, bad) in [
        ("/zero", CALLER.replace(TRACE, &"0".repeat(32))),
        ("/twice", format!("{CALLER}\r\ntraceparent: {CALLER}")),
    ] {
        edge.client().get(path, &format!("traceparent: {bad}\r\n{state}"));
        let got = backend.last();
        assert_eq!((got.header("traceparent"), got.header("tracestate")), (None, None), "{bad}");
        assert!(logged(&edge, path).get("trace_id").is_none());
    }
    edge.get("/none");
    assert_eq!(backend.last().header("traceparent"), None, "nothing is invented");
}

#[test]
fn a_request_becomes_a_span_that_tells_what_became_of_the_pin() {
    let collector = Collector::start();
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(&collector.settings("100"), &shop(QUICK, &[&backend]));
    let asked = format!("traceparent: {CALLER}\r\ntracestate: vendor=1\r\n");
    let answer = edge.client().get("/path?secret=1", &asked);
    let span = collector.span("/path");
    assert_eq!((hex(&span.trace_id).as_str(), span.kind()), (TRACE, SpanKind::Server));
    assert_eq!(
        (hex(&span.parent_span_id).as_str(), span.name.as_str()),
        ("b7ad6b7169203331", "GET")
    );
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("server.address", "shop.example.com"),
        ("http.response.status_code", "200"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.body.size", "5"),
        ("homing.app", "shop"),
        ("homing.backend", "web.1"),
        ("homing.affinity.outcome", "made"),
        ("homing.tries", "1"),
        ("homing.request_id", answer.header("x-request-id").unwrap()),
    ] {
        assert_eq!(text(&span, key).as_deref(), Some(expected), "{key}");
    }
    assert_eq!(value(&span, "error.type"), None);
    // The backend is told of our span, in the same trace.
    let told = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(backend.last().all("traceparent"), [told.as_str()]);
    assert_eq!(backend.last().all("tracestate"), ["vendor=1"]);
    assert_eq!(logged(&edge, "/path?secret=1")["trace_id"], TRACE);
    edge.counts("homing_spans_total{outcome=\"sent\"}", 1.0);
}

#[test]
fn a_failure_is_an_error_with_its_code_and_a_trace_begins_here() {
    let collector = Collector::start();
    let backend = Backend::new("web.1", |_, _| Reply::Done);
    let edge = Edge::start_with(&collector.settings("100"), &shop(QUICK, &[&backend]));
    edge.get("/silent");
    let span = collector.span("/silent");
    assert!(span.parent_span_id.is_empty());
    assert_eq!(logged(&edge, "/silent")["trace_id"], hex(&span.trace_id).as_str());
    assert_eq!(text(&span, "error.type").as_deref(), Some("backend_silent"));
    assert_eq!(text(&span, "homing.failure.code").as_deref(), Some("H13"));
    assert_eq!(span.status.unwrap().code(), StatusCode::Error);
}

#[test]
fn only_a_trusted_proxy_decides_what_is_recorded() {
    let collector = Collector::start();
    let backend = Backend::named("web.1");
    let ask = |edge: &Edge, path: &str| {
        edge.client().get(path, &format!("traceparent: {CALLER}\r\n"));
    };
    let head = collector.settings("0");
    let stranger = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    ask(&stranger, "/stranger");
    assert_eq!(backend.last().all("traceparent"), [CALLER], "not recorded: as it came");
    let head = format!("{head}trusted_proxies: [127.0.0.1]\n");
    let trusting = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    ask(&trusting, "/trusted");
    collector.span("/trusted");
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn a_collector_that_takes_nothing_costs_no_request_and_is_told_of_once() {
    let collector = Collector::start();
    collector.takes.store(false, Ordering::SeqCst);
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(&collector.settings("100"), &shop(QUICK, &[&backend]));
    for _ in 0..2 {
        let failed = edge.metric("homing_spans_total{outcome=\"failed\"}");
        assert_eq!(edge.get("/lost").status, 200);
        edge.counts("homing_spans_total{outcome=\"failed\"}", failed + 1.0);
    }
    let told = |what: &str| edge.log().iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("the collector takes no spans"), 1);
    collector.takes.store(true, Ordering::SeqCst);
    edge.get("/found");
    collector.span("/found");
    eventually("the log tells", || (told("takes spans again") == 1).then_some(()));
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let collector = Collector::start();
    let backend = Backend::named("web.1");
    let mut edge = Edge::start_with(&collector.settings("100"), &shop(QUICK, &[&backend]));
    for _ in 0..20 {
        edge.get("/last");
    }
    edge.signal("-TERM");
    assert_eq!(edge.wait().code(), Some(0));
    assert_eq!(collector.spans().len(), 20);
}
