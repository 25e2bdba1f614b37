//! `homing drain`, `homing ready`, `homing maintenance`: what the operator wants of backends and apps.

use std::io::{IsTerminal, Write};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::control::{Control, Target};
use super::{CommandError, duration, print};

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(500);

/// A replaced process reports four times a second; what it said longer ago is not believed, in ms.
const SILENCE_MS: u64 = 2_000;

/// A drain is done when it was seen done this many times: a request may be on its way to a backend.
const SEEN_DONE: u32 = 2;

/// APP/BACKEND, or APP for all of its backends.
#[derive(Clone, Debug)]
pub(super) struct Which {
    app: String,
    backend: Option<String>,
}

fn which(text: &str) -> Result<Which, String> {
    let (app, backend) = match text.split_once('/') {
        Some((app, backend)) => (app, Some(backend.to_owned())),
        None => (text, None),
    };
    if app.is_empty() || backend.as_deref() == Some("") {
        return Err("expected APP/BACKEND, such as shop/web.1, or APP".into());
    }
    Ok(Which { app: app.to_owned(), backend })
}

/// Let no new client to a backend; those that are pinned to it may go on
///
/// APP/BACKEND is one backend, APP all backends of an app. With a deadline, the clients that are left then
/// are moved to other backends, with cause `drain_deadline`, and their streams end. What is wanted is
/// kept over restarts and crashes; `homing ready` takes it back.
#[derive(Args, Debug)]
pub(super) struct Drain {
    #[command(flatten)]
    target: Target,
    /// Such as shop/web.1, or shop
    #[arg(value_name = "APP/BACKEND", value_parser = which)]
    which: Which,
    /// Move the clients that are left after this time, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deadline: Option<Duration>,
    /// Show who is left, and return when the process of the backend can be stopped
    ///
    /// That is when it has no request and no stream in hand, and either its deadline is over or no pinned
    /// client was seen in the last minutes.
    #[arg(long)]
    wait: bool,
}

impl Drain {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let control = self.target.control()?;
        let mut body = body(&self.which, "drain");
        if let Some(deadline) = self.deadline {
            body["deadline_seconds"] = json!(deadline.as_secs().max(1));
        }
        let answer = control.post("/v1/administer", &body)?;
        say(&answer)?;
        if self.wait { wait(&control, &self.which) } else { Ok(()) }
    }
}

/// Let everybody to a backend again
///
/// APP takes all backends of an app back into service, and the app itself.
#[derive(Args, Debug)]
pub(super) struct Ready {
    #[command(flatten)]
    target: Target,
    /// Such as shop/web.1, or shop
    #[arg(value_name = "APP/BACKEND", value_parser = which)]
    which: Which,
}

impl Ready {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let control = self.target.control()?;
        say(&control.post("/v1/administer", &body(&self.which, "ready"))?)
    }
}

/// Let nobody to a backend at all, or put an app out of service
///
/// `homing maintenance shop/web.1` moves the clients of a backend at once. `homing maintenance on -a shop`
/// answers everything for an app with 503 and the page for that, while its backends keep running and
/// its clients keep their pins; `homing maintenance off -a shop` ends that.
#[derive(Args, Debug)]
pub(super) struct Maintenance {
    #[command(flatten)]
    target: Target,
    /// APP/BACKEND; with -a: `on` or `off`
    #[arg(value_name = "APP/BACKEND|on|off")]
    what: String,
    /// The app to put out of service, or back
    #[arg(short, long, value_name = "APP")]
    app: Option<String>,
}

impl Maintenance {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let on = match (&self.app, self.what.as_str()) {
            (Some(_), "on") => true,
            (Some(_), "off") => false,
            (Some(_), _) => {
                let text = "with -a, say `on` or `off`: homing maintenance on -a shop";
                return Err(CommandError::Usage(text.into()));
            }
            (None, what) => return self.backend(what),
        };
        let control = self.target.control()?;
        say(&control.post("/v1/maintenance", &json!({ "app": self.app, "on": on }))?)
    }

    fn backend(&self, what: &str) -> Result<(), CommandError> {
        let which = which(what).map_err(CommandError::Usage)?;
        if which.backend.is_none() {
            let text = format!(
                "`{what}` names no backend: APP/BACKEND is one, and `homing maintenance on -a {what}` \
                 puts a whole app out of service"
            );
            return Err(CommandError::Usage(text));
        }
        let control = self.target.control()?;
        say(&control.post("/v1/administer", &body(&which, "maintenance"))?)
    }
}

fn body(which: &Which, state: &str) -> Value {
    let mut body = json!({ "app": which.app, "state": state });
    if let Some(backend) = &which.backend {
        body["backend"] = json!(backend);
    }
    body
}

/// Prints what was done.
pub(super) fn say(answer: &Value) -> Result<(), CommandError> {
    print(&format!("{}\n", answer["message"].as_str().unwrap_or("done")))
}

/// Shows who is left until nobody is.
fn wait(control: &Control, which: &Which) -> Result<(), CommandError> {
    let mut seen_done = 0;
    let mut last = String::new();
    while seen_done < SEEN_DONE {
        let left = left(&control.get("/v1/status")?, which)?;
        let line = left.line();
        if line != last {
            show(&line)?;
            last = line;
        }
        seen_done = if left.is_done() { seen_done + 1 } else { 0 };
        thread::sleep(POLL);
    }
    let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
    print(&format!("{end}nobody is left: the process can be stopped\n"))
}

/// Prints progress: over the last line on a terminal, line by line elsewhere.
fn show(line: &str) -> Result<(), CommandError> {
    let terminal = std::io::stdout().is_terminal();
    print(&if terminal { format!("\r\u{1b}[K{line}") } else { format!("{line}\n") })?;
    std::io::stdout().flush().map_err(CommandError::Output)
}

/// Who is left on the backends that drain.
#[derive(Debug, Default, Eq, PartialEq)]
struct Left {
    bound_clients: u64,
    requests: u64,
    streams: u64,
    /// Whether all of them admit nobody any more.
    closed: bool,
    /// Whether a replaced process does not say what it has in hand.
    unsaid: bool,
}

impl Left {
    fn is_done(&self) -> bool {
        let nothing_in_hand = self.requests == 0 && self.streams == 0 && !self.unsaid;
        nothing_in_hand && (self.closed || self.bound_clients == 0)
    }

    fn line(&self) -> String {
        let Self { bound_clients, requests, streams, closed, unsaid } = self;
        let unsaid =
            if *unsaid { ", and what a replaced process has, which does not say" } else { "" };
        let clients = match closed {
            true => "clients are moved".to_owned(),
            false => format!("about {bound_clients} clients seen lately"),
        };
        format!("{clients}, {requests} requests in flight, {streams} streams{unsaid}")
    }
}

/// Whether a replaced process has not said for long what it has in hand.
fn is_silent(finishing: &Value) -> bool {
    finishing["reported_ms_ago"].as_u64().is_none_or(|ago| ago > SILENCE_MS)
}

fn left(status: &Value, which: &Which) -> Result<Left, CommandError> {
    let apps = status["apps"].as_array();
    let app = apps.and_then(|apps| apps.iter().find(|app| app["name"] == which.app.as_str()));
    let backends = app.and_then(|app| app["backends"].as_array());
    let one = |backend: &&Value| which.backend.as_deref().is_none_or(|id| backend["id"] == id);
    let found: Vec<&Value> = backends.into_iter().flatten().filter(one).collect();
    if found.is_empty() {
        return Err(CommandError::Failed("the backend left the configuration".into()));
    }
    if found.iter().any(|backend| backend["administrative"] == "ready") {
        return Err(CommandError::Failed("it was made ready again".into()));
    }
    let sum = |key: &str| found.iter().filter_map(|backend| backend[key].as_u64()).sum();
    Ok(Left {
        bound_clients: sum("bound_clients"),
        requests: sum("requests_in_flight"),
        streams: sum("streams"),
        closed: found.iter().all(|backend| backend["admission"] == "closed"),
        unsaid: status["finishing"].as_array().into_iter().flatten().any(is_silent),
    })
}
