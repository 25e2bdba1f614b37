//! One span a request, for those that are recorded: made when the request has ended, and left in a queue for
//! who sends it to a collector. A queue that is full drops what comes, and counts it: no request waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span, status};
use tokio::sync::mpsc;

use super::record::RequestRecord;
use super::trace::{SpanId, TraceId, TraceParent};
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::assign::{Cause, Outcome};
use crate::balancer::failure::Party;
use crate::shared::Tallies;

/// Spans that wait to be sent. At a kilobyte each they take 2 MiB at most.
const QUEUE_MAX: usize = 2048;

/// No request is recorded. Else: how many of a million.
const OFF: u32 = u32::MAX;

/// A million: every request.
const WHOLE: u32 = 1_000_000;

/// Where spans wait.
#[derive(Debug)]
pub struct Spans {
    sample: AtomicU32,
    queue: mpsc::Sender<Span>,
    tallies: Arc<Tallies>,
}

/// A request that is recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recorded {
    /// The trace.
    pub trace: TraceId,
    /// The span of who called us; `None`: the trace begins here.
    pub parent: Option<SpanId>,
    /// Our own.
    pub span: SpanId,
}

impl Recorded {
    /// What the backend is told of its caller.
    pub fn as_parent(self) -> TraceParent {
        TraceParent::sampled(self.trace, self.span)
    }
}

/// Whether it counts what the caller says of recording.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// It does: a trusted proxy said it.
    Counts,
    /// Anybody may have said it.
    Ignored,
}

impl Spans {
    /// Records nothing yet. Answers with the other end of the queue, too.
    pub fn new(tallies: Arc<Tallies>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        (Self { sample: AtomicU32::new(OFF), queue, tallies }, waiting)
    }

    /// Records so many of a million requests from now on; `None`: none, whatever their callers do.
    pub fn sample(&self, of_a_million: Option<u32>) {
        self.sample.store(of_a_million.map_or(OFF, |share| share.min(WHOLE)), Ordering::Relaxed);
    }

    /// Decides whether a request is recorded.
    pub fn begin(&self, caller: Option<TraceParent>, word: Word) -> Option<Recorded> {
        let sample = self.sample.load(Ordering::Relaxed);
        if sample == OFF {
            return None;
        }
        let is_recorded = match (caller, word) {
            (Some(caller), Word::Counts) => caller.is_sampled(),
            (_, Word::Counts | Word::Ignored) => rand::random_range(0..WHOLE) < sample,
        };
        let new = || TraceId(rand::random_range(1..=u128::MAX).to_be_bytes());
        is_recorded.then(|| Recorded {
            trace: caller.map_or_else(new, |caller| caller.trace),
            parent: caller.map(|caller| caller.parent),
            span: SpanId(rand::random_range(1..=u64::MAX).to_be_bytes()),
        })
    }

    /// Has a request sent that was recorded and has ended.
    pub fn end(&self, recorded: Recorded, record: &RequestRecord<'_>) {
        self.offer(span(recorded, record));
    }

    fn offer(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            add(&self.tallies.spans_dropped, 1);
        }
    }

    /// Counts spans that a collector took.
    pub fn count_sent(&self, spans: u64) {
        add(&self.tallies.spans_sent, spans);
    }

    /// Counts spans that no collector took.
    pub fn count_failed(&self, spans: u64) {
        add(&self.tallies.spans_failed, spans);
    }
}

fn add(tally: &AtomicU64, spans: u64) {
    tally.fetch_add(spans, Ordering::Relaxed);
}

/// The span of a request, with the attributes of the semantic conventions for HTTP servers, and our own.
fn span(recorded: Recorded, record: &RequestRecord<'_>) -> Span {
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Span {
        trace_id: recorded.trace.0.to_vec(),
        span_id: recorded.span.0.to_vec(),
        parent_span_id: recorded.parent.map_or_else(Vec::new, |parent| parent.0.to_vec()),
        flags: 1,
        name: record.method.to_owned(),
        kind: span::SpanKind::Server.into(),
        start_time_unix_nano: nanos(record.time),
        end_time_unix_nano: nanos(record.time + record.duration),
        attributes: attributes(record),
        status: Some(outcome(record)),
        ..Span::default()
    }
}

/// What became of it: an error unless it went well, or the client is at fault, or it was meant.
fn outcome(record: &RequestRecord<'_>) -> Status {
    let failed = match record.failure {
        Some(facts) => facts.party != Party::Client,
        None => record.logged_status() >= 500,
    };
    let message = record.failure.map_or("", |facts| facts.text).to_owned();
    let code = if failed { status::StatusCode::Error } else { status::StatusCode::Unset };
    Status { message: if failed { message } else { String::new() }, code: code.into() }
}

fn attributes(record: &RequestRecord<'_>) -> Vec<KeyValue> {
    let path = record.path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let scheme = if record.scheme == Scheme::Https { "https" } else { "http" };
    let int = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut all = vec![
        word("http.request.method", record.method),
        // Not the query: what is in there is often no business of a collector's.
        word("url.path", &text(path)),
        word("url.scheme", scheme),
        word("server.address", &text(record.host)),
        word("network.protocol.version", record.protocol.trim_start_matches("http")),
        number("http.request.body.size", int(record.bytes_received)),
        number("http.response.body.size", int(record.bytes_sent)),
        word("homing.request_id", record.request_id),
        number("homing.tries", int(record.tries)),
    ];
    match record.logged_status() {
        0 => {}
        status => all.push(number("http.response.status_code", i64::from(status))),
    }
    let client = record.client.map(|client| client.to_string());
    for (key, value) in [
        ("client.address", client.as_deref()),
        ("error.type", record.failure.map(|facts| facts.label)),
        ("homing.app", record.app),
        ("homing.backend", record.backend),
        ("homing.affinity.outcome", record.outcome.map(Outcome::as_str)),
        ("homing.affinity.cause", record.cause.map(Cause::as_str)),
        ("homing.failure.code", record.failure.map(|facts| facts.code)),
        ("homing.failure.detail", record.detail),
    ] {
        all.extend(value.map(|value| word(key, value)));
    }
    all
}

fn word(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(flags: &str) -> Option<TraceParent> {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn who_is_recorded_is_decided_by_a_trusted_caller_or_by_chance() {
        let (spans, _waiting) = Spans::new(Arc::default());
        let begins = |caller, word| spans.begin(caller, word).is_some();
        assert!(!begins(caller("01"), Word::Counts), "it is off");
        spans.sample(Some(0));
        assert!(begins(caller("01"), Word::Counts));
        assert!(!begins(caller("01"), Word::Ignored), "anybody may say so");
        assert!(!begins(None, Word::Counts));
        spans.sample(Some(WHOLE));
        assert!(!begins(caller("00"), Word::Counts));
        assert!(begins(caller("00"), Word::Ignored) && begins(None, Word::Ignored));
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_counts_it() {
        let tallies = Arc::<Tallies>::default();
        let (spans, mut waiting) = Spans::new(Arc::clone(&tallies));
        let dropped = || tallies.spans_dropped.load(Ordering::Relaxed);
        (0..QUEUE_MAX).for_each(|_| spans.offer(Span::default()));
        assert_eq!(dropped(), 0);
        spans.offer(Span::default());
        assert_eq!(dropped(), 1);
        assert!(waiting.try_recv().is_ok());
        spans.offer(Span::default());
        assert_eq!(dropped(), 1, "there is room again");
    }

    #[test]
    fn a_trace_goes_on_in_a_span_of_our_own() {
        let (spans, _waiting) = Spans::new(Arc::default());
        spans.sample(Some(WHOLE));
        let ours = spans.begin(caller("01"), Word::Ignored).unwrap();
        assert_eq!(ours.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(ours.parent, caller("01").map(|caller| caller.parent));
        let told = ours.as_parent().to_string();
        assert!(told.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && told.ends_with("-01"));
        assert!(!told.contains("b7ad6b7169203331"));
    }
}
