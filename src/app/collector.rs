//! Spans on their way to a collector: OTLP over HTTP, in protobuf, apart from the requests.

use std::sync::Arc;
use std::sync::mpsc as answers;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::{Mutex, mpsc};

use crate::config::model::Tracing;
use crate::outbound::{Limits, Outbound};
use crate::shared::Tallies;
use crate::telemetry::spans::Spans;

/// Most spans that are sent at once.
const BATCH_MAX: usize = 512;

/// How long spans gather before they are sent: one request for many spans.
const GATHER: Duration = Duration::from_millis(500);

/// What one request to the collector may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 64 << 10 };

/// How long the last spans may take when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Sends spans.
pub(super) struct Collector {
    pub(super) spans: Arc<Spans>,
    settings: ArcSwapOption<Tracing>,
    waiting: Mutex<mpsc::Receiver<Span>>,
    flush: mpsc::Sender<answers::Sender<()>>,
    flushes: Mutex<mpsc::Receiver<answers::Sender<()>>>,
    outbound: Outbound,
}

impl Collector {
    pub(super) fn new(tallies: Arc<Tallies>) -> Self {
        let (spans, waiting) = Spans::new(tallies);
        let (flush, flushes) = mpsc::channel(1);
        Self {
            spans: Arc::new(spans),
            settings: ArcSwapOption::empty(),
            waiting: Mutex::new(waiting),
            flush,
            flushes: Mutex::new(flushes),
            outbound: Outbound::default(),
        }
    }

    /// Does as a configuration says from now on.
    pub(super) fn settle(&self, tracing: Option<&Tracing>) {
        self.settings.store(tracing.cloned().map(Arc::new));
        self.spans.sample(tracing.map(|tracing| tracing.sample));
    }

    /// Sends spans for as long as it is polled.
    pub(super) async fn run(&self) {
        let (mut waiting, mut flushes) = (self.waiting.lock().await, self.flushes.lock().await);
        let mut batch = Vec::new();
        let mut was_taken = true;
        loop {
            let flushed = tokio::select! {
                _some = waiting.recv_many(&mut batch, BATCH_MAX) => None,
                flush = flushes.recv() => flush,
            };
            if flushed.is_none() && batch.len() < BATCH_MAX {
                tokio::time::sleep(GATHER).await;
            }
            while let Ok(span) = waiting.try_recv() {
                batch.push(span);
            }
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH_MAX));
                was_taken = self.send(std::mem::replace(&mut batch, rest), was_taken).await;
            }
            if let Some(done) = flushed {
                let _nobody_waits = done.send(());
            }
        }
    }

    /// Sends some spans. Whether the collector took them.
    async fn send(&self, batch: Vec<Span>, was_taken: bool) -> bool {
        let count = batch.len() as u64;
        let Some(settings) = self.settings.load_full() else { return was_taken };
        let taken = self.post(&settings.endpoint, batch).await;
        match &taken {
            Ok(()) => self.spans.count_sent(count),
            Err(_) => self.spans.count_failed(count),
        }
        let endpoint = &*settings.endpoint;
        match taken {
            Ok(()) if !was_taken => tracing::info!(endpoint, "the collector takes spans again"),
            // Told once; the metric tells how many.
            Err(why) if was_taken => tracing::warn!(endpoint, why, "the collector takes no spans"),
            Ok(()) => return true,
            Err(_) => return false,
        }
        !was_taken
    }

    async fn post(&self, endpoint: &str, batch: Vec<Span>) -> Result<(), String> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let request = Request::post(url).header(header::CONTENT_TYPE, "application/x-protobuf");
        let request = request.body(Bytes::from(message(batch).encode_to_vec()));
        let request = request.map_err(|error| error.to_string())?;
        let answer = self.outbound.ask(request, LIMITS).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("the answer is {}", status.as_u16())) }
    }

    /// Has what waits sent, and waits for it, for a while.
    pub(super) fn flush(&self) {
        let (done, flushed) = answers::channel();
        if self.settings.load().is_some() && self.flush.try_send(done).is_ok() {
            let _late = flushed.recv_timeout(FLUSH_LIMIT);
        }
    }
}

fn message(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let word = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    };
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![word("service.name", "homing"), word("service.version", version)];
    let scope = InstrumentationScope { name: "homing".into(), ..InstrumentationScope::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}
