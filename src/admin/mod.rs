//! The admin listener: what Prometheus, a supervisor and the operator ask.

mod api;
pub mod command;
mod guard;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use self::command::Commands;
use crate::balancer::app::members::Admission;
use crate::balancer::app::members::Closed;
use crate::balancer::state::Snapshot;
use crate::config::model::Api;
use crate::issued::Issued;
use crate::shared::{Clock, Published};
use crate::telemetry::metrics::Metrics;

/// What the admin listener and the control socket know.
pub struct Admin {
    /// Apps and backends.
    pub published: Arc<Published>,
    /// The metrics.
    pub metrics: Metrics,
    /// Whether the process is about to end.
    pub stopping: Arc<AtomicBool>,
    /// Whether it was ready once; a backend that is added later does not make it unready.
    pub was_ready: AtomicBool,
    /// What the process may run out of, and whether it does.
    pub short: Box<dyn Fn() -> [(&'static str, bool); 2] + Send + Sync>,
    /// The clock.
    pub clock: Clock,
    /// Certificates of an ACME server.
    pub issued: Arc<Issued>,
    /// The way to the one who does what is asked.
    pub commands: Commands,
    /// Who may ask for anything to be done on the listener; `None`: nobody.
    pub api: Arc<ArcSwapOption<Api>>,
}

/// The admin listener: whoever reaches it may look, and who has the token may act.
pub struct Public(pub Arc<Admin>);

/// The control socket: whoever may open it may act.
pub struct Control(pub Arc<Admin>);

/// What is answered.
struct Answer {
    status: StatusCode,
    media: &'static str,
    body: Vec<u8>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Admin {
    /// What everybody may see, as one table.
    fn look(&self, method: &Method, path: &str) -> Answer {
        if *method != Method::GET && *method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        match path {
            "/" => text(StatusCode::OK, "homing: /metrics /healthz /readyz /status\n"),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(),
            "/status" => self.status(),
            _ => text(StatusCode::NOT_FOUND, "try /metrics, /healthz, /readyz or /status\n"),
        }
    }

    /// What there is little left of.
    fn short(&self) -> Vec<&'static str> {
        (self.short)().into_iter().filter(|(_, is_short)| *is_short).map(|(of, _)| of).collect()
    }

    fn metrics(&self) -> Answer {
        match self.metrics.text() {
            Ok(body) => Answer { status: StatusCode::OK, media: METRICS, body },
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    /// Ready: not about to end, and every backend of the first configuration had its first verdict.
    fn ready(&self) -> Answer {
        if self.stopping.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        let unprobed = match self.was_ready.load(Ordering::Relaxed) {
            true => 0,
            false => unprobed(&self.published.load()),
        };
        match unprobed {
            0 => {
                self.was_ready.store(true, Ordering::Relaxed);
                text(StatusCode::OK, "ready\n")
            }
            count => {
                let waiting = format!("{count} backends wait for their first probe\n");
                text(StatusCode::SERVICE_UNAVAILABLE, &waiting)
            }
        }
    }

    fn status(&self) -> Answer {
        let now = self.clock.monotonic();
        let status = views::status(&self.published, self.short(), &self.issued, now);
        match serde_json::to_vec_pretty(&status) {
            Ok(mut body) => {
                body.push(b'\n');
                Answer { status: StatusCode::OK, media: JSON, body }
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }
}

fn unprobed(snapshot: &Snapshot) -> usize {
    let admissions = snapshot.apps.iter().flat_map(|view| view.admissions());
    admissions.filter(|(_, admission)| *admission == Admission::Closed(Closed::Unknown)).count()
}

fn text(status: StatusCode, text: &str) -> Answer {
    Answer { status, media: TEXT, body: text.as_bytes().to_vec() }
}

#[async_trait]
impl ServeHttp for Public {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let answer = match request.uri.path().starts_with(api::PREFIX) {
            true => match guard::check(request, self.0.api.load().as_deref()) {
                Ok(()) => api::answer(&self.0, session).await,
                Err(answer) => answer,
            },
            false => self.0.look(&request.method, request.uri.path()),
        };
        answer.response(&session.req_header().method)
    }
}

#[async_trait]
impl ServeHttp for Control {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let answer = match request.uri.path().starts_with(api::PREFIX) {
            true => api::answer(&self.0, session).await,
            false => self.0.look(&request.method, request.uri.path()),
        };
        answer.response(&session.req_header().method)
    }
}

impl Answer {
    fn response(self, method: &Method) -> Response<Vec<u8>> {
        let mut response = Response::new(Vec::new());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // The next question may be for a successor, who counts on.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if *method != Method::HEAD {
            *response.body_mut() = self.body;
        }
        response
    }
}
