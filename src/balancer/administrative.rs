//! What the operator wants of apps and backends, as a document that outlives every process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::app::members::AdminState;
use super::name::{AppName, BackendId};
use super::state::{Event, Spec};

/// The version of the document.
const VERSION: u32 = 1;

/// What the operator wants, by app and backend. Whatever is not in it is ready.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Administrative {
    version: u32,
    apps: BTreeMap<String, App>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct App {
    maintenance: bool,
    backends: BTreeMap<String, Wish>,
}

/// What the operator wants of one backend.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The state it is to have.
    #[serde(with = "word")]
    pub state: AdminState,
    /// When a drain ends, in Unix seconds; `None`: when the clients have gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
}

/// Administrative states by their words.
mod word {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::AdminState;

    pub(super) fn serialize<S: Serializer>(state: &AdminState, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(state.as_str())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<AdminState, D::Error> {
        let word = String::deserialize(from)?;
        AdminState::parse(&word)
            .ok_or_else(|| D::Error::custom(format!("no administrative state is called `{word}`")))
    }
}

impl Default for Administrative {
    fn default() -> Self {
        Self { version: VERSION, apps: BTreeMap::new() }
    }
}

impl Administrative {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is damaged, or of another version.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match document.version {
            VERSION => Ok(document),
            other => Err(format!("it has version {other}, and this program knows {VERSION}")),
        }
    }

    /// The text of the document.
    pub fn text(&self) -> String {
        // Strings, numbers and maps by strings: there is nothing that JSON cannot say.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Wants something of one backend.
    pub fn set(&mut self, app: &AppName, backend: &BackendId, wish: Wish) {
        let backends = &mut self.apps.entry(app.to_string()).or_default().backends;
        match wish.state {
            AdminState::Ready => drop(backends.remove(backend.as_str())),
            AdminState::Drain | AdminState::Maintenance => {
                backends.insert(backend.to_string(), wish);
            }
        }
        self.tidy();
    }

    /// Wants an app to be in maintenance, or not.
    pub fn maintain(&mut self, app: &AppName, on: bool) {
        self.apps.entry(app.to_string()).or_default().maintenance = on;
        self.tidy();
    }

    /// Whether an app is to be in maintenance.
    pub fn is_maintained(&self, app: &str) -> bool {
        self.apps.get(app).is_some_and(|app| app.maintenance)
    }

    /// What is wanted of a backend.
    pub fn wish(&self, app: &str, backend: &str) -> Wish {
        let wish = self.apps.get(app).and_then(|app| app.backends.get(backend)).copied();
        wish.unwrap_or(Wish { state: AdminState::Ready, deadline: None })
    }

    /// Forgets what is not there any more.
    pub fn retain(&mut self, spec: &Spec) {
        self.apps.retain(|name, wanted| {
            let Some(app) = spec.apps.iter().find(|app| app.name.as_str() == name) else {
                return false;
            };
            let listed = |id: &String| app.backends.iter().any(|own| own.id.as_str() == id);
            wanted.backends.retain(|id, _| listed(id));
            true
        });
        self.tidy();
    }

    fn tidy(&mut self) {
        self.apps.retain(|_, app| app.maintenance || !app.backends.is_empty());
    }

    /// The events that make a new balancer do what is wanted: `now` on the clock of the events, which
    /// is `unix` on the wall clock.
    pub fn events(&self, now: Duration, unix: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for (name, wanted) in &self.apps {
            let Ok(app) = AppName::parse(name) else { continue };
            if wanted.maintenance {
                events.push(Event::AppMaintained { app: app.clone(), on: true });
            }
            for (id, wish) in &wanted.backends {
                let Ok(backend) = BackendId::parse(id) else { continue };
                events.push(wish.event(app.clone(), backend, now, unix));
            }
        }
        events
    }
}

impl Wish {
    /// The event that makes it so: `now` on the clock of the events, which is `unix` on the wall clock.
    pub fn event(self, app: AppName, backend: BackendId, now: Duration, unix: Duration) -> Event {
        let left = |at: u64| Duration::from_secs(at).saturating_sub(unix);
        let deadline = self.deadline.map(|at| now.saturating_add(left(at)));
        Event::Administered { app, backend, state: self.state, deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Administrative {
        let mut document = Administrative::default();
        let app = AppName::parse("shop").unwrap();
        let drain = Wish { state: AdminState::Drain, deadline: Some(1_800_000_000) };
        document.set(&app, &BackendId::parse("web.1").unwrap(), drain);
        document.maintain(&app, true);
        document
    }

    #[test]
    fn a_document_reads_as_it_was_written() {
        let written = document();
        assert_eq!(Administrative::parse(written.text().as_bytes()), Ok(written));
    }

    #[test]
    fn a_document_that_was_cut_anywhere_is_none() {
        let text = document().text();
        let whole = text.trim_end();
        for cut in 0..whole.len() {
            assert!(Administrative::parse(&whole.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_is_ready_is_not_in_it() {
        let mut document = document();
        let app = AppName::parse("shop").unwrap();
        let ready = Wish { state: AdminState::Ready, deadline: None };
        document.set(&app, &BackendId::parse("web.1").unwrap(), ready);
        document.maintain(&app, false);
        assert_eq!(document, Administrative::default());
    }

    #[test]
    fn a_deadline_that_is_over_is_now() {
        let unix = Duration::from_secs(1_800_000_007);
        let events = document().events(Duration::from_secs(3), unix);
        let now = Duration::from_secs(3);
        let at = |event: &Event| matches!(event, Event::Administered { deadline: Some(at), .. } if *at == now);
        assert!(events.iter().any(at), "{events:?}");
    }
}
