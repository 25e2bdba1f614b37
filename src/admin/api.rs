//! Commands as JSON over HTTP: on the control socket for whoever may open it, on the admin listener for
//! who has the token.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::json;

use super::command::{Command, Kind, Outcome};
use super::{Admin, Answer, JSON};
use crate::balancer::app::members::AdminState;
use crate::balancer::assign::Pressure;
use crate::balancer::explain::{Asked, explain};
use crate::balancer::name::{AppName, BackendId};

/// Where the commands are.
pub(super) const PREFIX: &str = "/v1/";

/// Longest body, in bytes: a configuration to be planned.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Longest deadline, in seconds: a year. No pin lives much longer.
const DEADLINE_SECONDS_MAX: u64 = 366 * 86_400;

/// Answers a command.
pub(super) async fn answer(admin: &Admin, session: &mut ServerSession) -> Answer {
    let request = session.req_header();
    let (method, path) = (request.method.clone(), request.uri.path().to_owned());
    if path == "/v1/status" && (method == Method::GET || method == Method::HEAD) {
        return admin.status();
    }
    if method != Method::POST {
        return error(StatusCode::METHOD_NOT_ALLOWED, "commands are sent with POST");
    }
    let body = match body(session).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    if path == "/v1/explain" {
        return match parse::<Explain>(&body).and_then(|asked| admin.explain(&asked)) {
            Ok(told) => answer_json(StatusCode::OK, &told),
            Err(text) => error(StatusCode::BAD_REQUEST, &text),
        };
    }
    let parsed = match path.as_str() {
        "/v1/administer" => parse::<Administer>(&body).and_then(Administer::command),
        "/v1/keys/list" => Ok(Command::ListKeys),
        "/v1/keys/rotate" => Ok(Command::RotateKeys),
        "/v1/keys/retire" => parse::<Retire>(&body).map(Retire::command),
        "/v1/maintenance" => parse::<Maintain>(&body).and_then(Maintain::command),
        "/v1/plan" => parse::<Plan>(&body).map(Plan::command),
        "/v1/reload" => Ok(Command::Reload),
        "/v1/restart" => Ok(Command::Restart),
        _ => return error(StatusCode::NOT_FOUND, "there is no such command"),
    };
    match parsed {
        Ok(command) => outcome(admin.commands.run(command).await),
        Err(text) => error(StatusCode::BAD_REQUEST, &text),
    }
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Answer> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(bytes)) if body.len() + bytes.len() <= BODY_BYTES_MAX => {
                body.extend_from_slice(&bytes);
            }
            Ok(Some(_)) => return Err(error(StatusCode::PAYLOAD_TOO_LARGE, "more than 256 MiB")),
            Ok(None) => return Ok(body),
            Err(_) => return Err(error(StatusCode::BAD_REQUEST, "the body ended early")),
        }
    }
}

fn outcome(outcome: Outcome) -> Answer {
    match outcome {
        Ok(value) => answer_json(StatusCode::OK, &value),
        Err(refused) => {
            let status = match refused.kind {
                Kind::Busy => StatusCode::CONFLICT,
                Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
                Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                Kind::Unknown => StatusCode::NOT_FOUND,
            };
            error(status, &refused.text)
        }
    }
}

/// An answer that says what went wrong.
pub(super) fn error(status: StatusCode, text: &str) -> Answer {
    answer_json(status, &json!({ "error": text }))
}

fn answer_json(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut body = value.to_string().into_bytes();
    body.push(b'\n');
    Answer { status, media: JSON, body }
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn app(name: &str) -> Result<AppName, String> {
    AppName::parse(name).map_err(|error| format!("`{name}` is no app: {error}"))
}

/// The body of `/v1/administer`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Administer {
    app: String,
    /// Left out: all backends of the app.
    backend: Option<String>,
    state: String,
    deadline_seconds: Option<u64>,
}

impl Administer {
    fn command(self) -> Result<Command, String> {
        let backend = self.backend.map(|id| {
            BackendId::parse(&id).map_err(|error| format!("`{id}` is no backend: {error}"))
        });
        let state = AdminState::parse(&self.state);
        let state = state.ok_or("`state` is `drain`, `maintenance` or `ready`")?;
        if self.deadline_seconds.is_some() && state != AdminState::Drain {
            return Err("only a drain has a deadline".into());
        }
        if self.deadline_seconds.is_some_and(|seconds| seconds > DEADLINE_SECONDS_MAX) {
            return Err(format!("a deadline is at most {DEADLINE_SECONDS_MAX} seconds away"));
        }
        Ok(Command::Administer {
            app: app(&self.app)?,
            backend: backend.transpose()?,
            state,
            deadline: self.deadline_seconds.map(Duration::from_secs),
        })
    }
}

/// The body of `/v1/maintenance`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Maintain {
    app: String,
    on: bool,
}

impl Maintain {
    fn command(self) -> Result<Command, String> {
        Ok(Command::Maintain { app: app(&self.app)?, on: self.on })
    }
}

/// The body of `/v1/explain`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explain {
    host: String,
    #[serde(default)]
    path: Option<String>,
    /// A `Cookie` header, or the bare value of ours.
    #[serde(default)]
    cookie: String,
    /// More headers, each as `Name: value`.
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    address: Option<IpAddr>,
}

fn header(line: &String) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = line.split_once(':').and_then(|(name, value)| {
        Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    parsed.ok_or_else(|| format!("`{line}` is no header: `Name: value` was expected"))
}

impl Admin {
    fn explain(&self, asked: &Explain) -> Result<serde_json::Value, String> {
        let path = asked.path.as_deref().unwrap_or("/");
        let uri = path.parse::<Uri>().ok().filter(|_| path.starts_with('/'));
        let uri = uri.ok_or_else(|| format!("`{path}` is no path"))?;
        let headers: HeaderMap = asked.headers.iter().map(header).collect::<Result<_, _>>()?;
        let (host, cookies) = (&*asked.host, &*asked.cookie);
        let request = Asked { host, uri: &uri, cookies, headers, address: asked.address };
        let now = self.clock.unix().as_secs();
        let pressure = if self.short().is_empty() { Pressure::None } else { Pressure::High };
        let told = explain(&self.published.load(), &request, pressure, now, &mut rand::rng());
        // Plain words and numbers: there is nothing that JSON cannot say.
        Ok(serde_json::to_value(told).unwrap_or_default())
    }
}

/// The body of `/v1/keys/retire`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retire {
    id: String,
    #[serde(default)]
    force: bool,
}

impl Retire {
    fn command(self) -> Command {
        Command::RetireKey { id: self.id, force: self.force }
    }
}

/// The body of `/v1/plan`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    path: PathBuf,
    source: String,
}

impl Plan {
    fn command(self) -> Command {
        Command::Plan { path: self.path, source: self.source }
    }
}
