//! `homing token inspect`

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CommandError, print};
use crate::app::{Missing, keyring};
use crate::balancer::affinity::Affinity;
use crate::balancer::affinity::token::{IncarnationHash, Opened, TokenError};
use crate::balancer::app::App;
use crate::balancer::assign::Cause;
use crate::balancer::state::{Balancer, Event};
use crate::config;
use crate::shared::Clock;

/// Open the tokens that affinity cookies carry
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    Inspect(Inspect),
}

impl Token {
    pub(super) fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Inspect(inspect) => inspect.run(),
        }
    }
}

/// Say what a cookie value means: backend, age, key, what would happen now
///
/// Uses the keyring of the configuration. What the running Homing knows of health is not asked.
#[derive(Args, Debug)]
pub(super) struct Inspect {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The app the cookie belongs to; not needed when only one can open it
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// The value, or a whole `Cookie` header; standard input when it is `-` or left out
    value: Option<String>,
}

impl Inspect {
    fn run(self) -> Result<(), CommandError> {
        let config = config::load(&self.config).map_err(CommandError::Config)?;
        let keyring = keyring(&config, Missing::Refuse).map_err(CommandError::Start)?;
        let text = self.text()?;
        let mut balancer = Balancer::default();
        let now = Clock::start().unix().as_secs();
        let spec = config.spec(keyring, now);
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        let snapshot = balancer.snapshot();
        let apps: Vec<&App> = snapshot
            .apps
            .iter()
            .map(|view| view.app.as_ref())
            .filter(|app| self.app.as_deref().is_none_or(|name| app.name.as_str() == name))
            .collect();
        if apps.is_empty() {
            let name = self.app.unwrap_or_default();
            return Err(CommandError::Usage(format!("there is no app `{name}` in the file")));
        }
        print(&inspect(&apps, &text, now))
    }

    fn text(&self) -> Result<String, CommandError> {
        match self.value.as_deref() {
            None | Some("-") => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(CommandError::Output)?;
                Ok(text)
            }
            Some(text) => Ok(text.to_owned()),
        }
    }
}

/// What is to be said of a value, for the app that opens it, at `now` (Unix seconds).
fn inspect(apps: &[&App], text: &str, now: u64) -> String {
    let mut last = None;
    for app in apps {
        let Some(affinity) = &app.affinity else { continue };
        let header = text.trim().trim_start_matches("Cookie:");
        let values: Vec<&[u8]> = affinity.values(header.as_bytes()).collect();
        let value = values.first().copied().unwrap_or_else(|| text.trim().as_bytes());
        match affinity.sealer().open(value) {
            Ok(opened) => return opened_text(app, affinity, &opened, now),
            Err(error) => last = more_telling(last, error),
        }
    }
    let cause = last.map_or("off", |error| Cause::from(error).as_str());
    let why = match last {
        None => "the app keeps no client on its backend",
        Some(TokenError::Malformed) => {
            "no token of Homing: 64 characters of base64url were expected"
        }
        Some(TokenError::UnknownKey) => "sealed with a key that is not on the ring",
        Some(TokenError::Forged | TokenError::WrongApp) => {
            "the key is ours, the seal is not: changed, or of another app or cookie name"
        }
        Some(TokenError::ExpiredIdle | TokenError::ExpiredLifetime) => "expired",
    };
    table(&[
        ("token", format!("not ours: {why}")),
        ("now", format!("a new backend would be drawn, cause {cause}")),
    ])
}

/// The error of the app that came closest.
fn more_telling(last: Option<TokenError>, error: TokenError) -> Option<TokenError> {
    match last {
        Some(TokenError::Forged) => last,
        Some(_) | None => Some(error),
    }
}

fn opened_text(app: &App, affinity: &Affinity, opened: &Opened, now: u64) -> String {
    let token = &opened.token;
    let found = app.find(token.backend).map(|slot| app.backend(slot));
    let backend = found.map_or("not on the list any more".to_owned(), |backend| {
        format!("{} at {}", backend.id, backend.address)
    });
    let incarnation = match found.and_then(|backend| backend.incarnation.as_ref()) {
        Some(incarnation) if token.incarnation == IncarnationHash::of(Some(incarnation)) => {
            format!("{incarnation}, as on the list")
        }
        Some(incarnation) => format!("another than `{incarnation}` on the list"),
        None if token.incarnation == IncarnationHash::of(None) => "none".into(),
        None => "one that is not on the list any more".into(),
    };
    let key = if opened.newest_key {
        "the newest: it seals"
    } else {
        "an older one: sealed anew when used"
    };
    let outcome = match (token.check_age(now, &affinity.policy.limits), found) {
        (Err(error), _) => format!("moved, cause {}", Cause::from(error).as_str()),
        (Ok(()), None) if token.is_older_than(affinity.policy.borrow_limit, now) => {
            format!("moved, cause {}", Cause::Removed.as_str())
        }
        // What it depends on only the running Homing knows.
        (Ok(()), None) => format!("borrowed or moved, cause {}", Cause::Removed.as_str()),
        (Ok(()), Some(backend)) if backend.incarnation_hash != token.incarnation => {
            format!("moved, cause {}", Cause::NewIncarnation.as_str())
        }
        (Ok(()), Some(backend)) => {
            format!("followed to {}, if it admits pinned clients", backend.id)
        }
    };
    let lines = [
        ("token", "ours".to_owned()),
        ("app", app.name.to_string()),
        ("backend", backend),
        ("incarnation", incarnation),
        ("issued", format!("{} ago", age(token.issued, now))),
        ("renewed", format!("{} ago", age(token.renewed, now))),
        ("key", format!("{}, {key}", opened.key)),
        ("now", outcome),
    ];
    table(&lines)
}

/// One fact a line.
fn table(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, fact)| format!("{name:<12} {fact}\n")).collect()
}

/// An age in its two largest units.
fn age(since: u32, now: u64) -> String {
    let seconds = now.saturating_sub(u64::from(since));
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}
