//! The backends of `homing demo`: a page that counts visits in the memory of one process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use uuid::Uuid;

use crate::balancer::affinity::cookie;
use crate::shared::Clock;

/// The session cookie of the demo app. It says who the visitor is; the count is in memory.
const SESSION: &str = "demo-session";

/// Most visitors one backend remembers; the demo is not meant to be filled.
const VISITORS_MAX: usize = 10_000;

/// How long a backend fails after `/crash`.
const CRASH: Duration = Duration::from_secs(10);

/// One backend of the demo.
pub struct DemoBackend {
    id: String,
    clock: Clock,
    visits: Mutex<HashMap<String, u64>>,
    failing_until: Mutex<Duration>,
}

impl DemoBackend {
    /// A backend with an empty memory.
    pub fn new(id: String) -> Self {
        let (visits, failing_until) = (Mutex::default(), Mutex::default());
        Self { id, clock: Clock::start(), visits, failing_until }
    }

    fn visit(&self, headers: &HeaderMap) -> (String, u64) {
        let cookies = headers.get_all(header::COOKIE).iter();
        let known = cookies
            .flat_map(|line| cookie::values(line.as_bytes(), SESSION))
            .find_map(|value| std::str::from_utf8(value).ok())
            .filter(|value| Uuid::try_parse(value).is_ok());
        let session = known.map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned);
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        if visits.len() >= VISITORS_MAX && !visits.contains_key(&session) {
            visits.clear();
        }
        let count = visits.entry(session.clone()).or_default();
        *count += 1;
        (session, *count)
    }

    fn is_failing(&self) -> bool {
        let until = self.failing_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.monotonic() < *until
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> Response<Vec<u8>> {
        if path == "/crash" {
            let until = self.clock.monotonic() + CRASH;
            *self.failing_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
            self.visits.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return plain(
                StatusCode::OK,
                format!("{} forgets everything and fails for 10 seconds\n", self.id),
            );
        }
        if self.is_failing() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{} fails\n", self.id));
        }
        if path == "/healthz" {
            return plain(StatusCode::OK, "ok\n".into());
        }
        if path != "/" {
            return plain(StatusCode::NOT_FOUND, "nothing here\n".into());
        }
        let (session, count) = self.visit(headers);
        let html = headers
            .get(header::ACCEPT)
            .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")));
        let mut response = if html { self.page(count) } else { self.line(count) };
        let cookie = format!("{SESSION}={session}; Path=/; HttpOnly; SameSite=Lax");
        if let Ok(cookie) = cookie.parse() {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    fn line(&self, count: u64) -> Response<Vec<u8>> {
        plain(StatusCode::OK, format!("{} remembers visit {count} of yours\n", self.id))
    }

    fn page(&self, count: u64) -> Response<Vec<u8>> {
        let id = &self.id;
        let page = format!(
            "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>{id}</title>\
             <body style=\"font: 1.4em sans-serif; text-align: center; margin-top: 20vh\">\
             <p>This is <b>{id}</b>.</p><p style=\"font-size: 4em; margin: .2em\">{count}</p>\
             <p>visits of yours in its memory, and in its memory only.</p><p><a href=\"/\">Again</a></p></body></html>\n"
        );
        answer(StatusCode::OK, "text/html; charset=utf-8", page)
    }
}

fn plain(status: StatusCode, text: String) -> Response<Vec<u8>> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, media: &'static str, body: String) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    response.headers_mut().insert(header::CONTENT_LENGTH, http::HeaderValue::from(length));
    response
}

#[async_trait]
impl ServeHttp for DemoBackend {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        self.answer(request.uri.path(), &request.headers)
    }
}
