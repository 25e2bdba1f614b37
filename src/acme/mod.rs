//! Certificates from an ACME server (RFC 8555): had for the names of the configuration, kept, and renewed. One process
//! orders, one name after another.

mod certificate;
mod client;
mod desk;
mod failure;
mod files;
mod order;
mod schedule;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::desk::Desk;
use self::files::Files;
use crate::config::Config;
use crate::config::acme::Acme as Settings;
use crate::issued::Issued;
use crate::shared::{Clock, Tallies};

/// How often a process asks for the right to order that another one has.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The same where the state directory cannot be used.
const ASK_AGAIN_FAILING: Duration = Duration::from_secs(30);

/// Gets certificates.
pub struct Acme {
    /// What was issued, for handshakes, requests and metrics.
    pub issued: Arc<Issued>,
    tallies: Arc<Tallies>,
    clock: Clock,
    state_dir: PathBuf,
    wanted: watch::Sender<Wanted>,
}

/// What a configuration wants.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Wanted {
    settings: Option<Settings>,
    names: BTreeSet<Box<str>>,
}

impl Acme {
    /// Nothing is wanted yet; what is had is kept in this state directory.
    pub fn new(state_dir: &Path, tallies: Arc<Tallies>, clock: Clock) -> Self {
        let (issued, wanted) = (Arc::default(), watch::Sender::default());
        Self { issued, tallies, clock, state_dir: state_dir.to_owned(), wanted }
    }

    /// Wants what a configuration says, and nothing else. Certificates that are kept are served at once.
    pub fn want(&self, config: &Config) {
        let wanted = Wanted { settings: config.acme.clone(), names: config.acme_names() };
        if *self.wanted.borrow() == wanted {
            return;
        }
        match &wanted.settings {
            Some(settings) => self.desk(settings, &wanted.names).show(),
            None => self.show_nothing(),
        }
        self.wanted.send_replace(wanted);
    }

    /// Gets and renews what is wanted for as long as it is polled, from when this process `serves`: before, no
    /// challenge could be answered.
    pub async fn run(&self, mut serves: watch::Receiver<bool>) {
        let mut changes = self.wanted.subscribe();
        let mut settings = None;
        if serves.wait_for(|serves| *serves).await.is_err() {
            return;
        }
        loop {
            let wanted = changes.borrow_and_update().clone();
            // Where the section is taken out, what is known of its names is forgotten as for any other.
            settings = wanted.settings.or(settings);
            let ended = tokio::select! {
                changed = changes.changed() => changed.is_err(),
                () = self.keep(settings.as_ref(), &wanted.names) => false,
            };
            if ended {
                return;
            }
        }
    }

    /// Never ends.
    async fn keep(&self, settings: Option<&Settings>, names: &BTreeSet<Box<str>>) {
        let Some(settings) = settings else { return std::future::pending().await };
        let files = Files::new(&self.state_dir, &settings.directory);
        if names.is_empty() {
            // Again: what was under way may have shown its own meanwhile.
            self.show_nothing();
            if files.journal().is_empty() {
                return std::future::pending().await;
            }
        }
        // Held for as long as this future is.
        let _lock = lock(&files).await;
        // Read only now: the process before may have ordered meanwhile.
        let mut desk = self.desk(settings, names);
        desk.forget();
        desk.show();
        loop {
            desk.work().await;
        }
    }

    fn show_nothing(&self) {
        self.issued.serve(Default::default());
        self.issued.tell(Vec::new());
    }

    fn desk<'d>(&'d self, settings: &'d Settings, names: &BTreeSet<Box<str>>) -> Desk<'d> {
        let files = Files::new(&self.state_dir, &settings.directory);
        Desk::new(settings, files, names, &self.issued, &self.tallies, self.clock)
    }
}

/// Waits for the right to order.
async fn lock(files: &Files) -> File {
    let mut was_told = false;
    loop {
        let (pause, told) = match files.lock() {
            Ok(Some(lock)) => return lock,
            Ok(None) => (ASK_AGAIN, was_told),
            Err(error) => {
                if !was_told {
                    let help = "see to it that Homing may write to its state directory";
                    tracing::error!(%error, help, "no certificates can be ordered");
                }
                (ASK_AGAIN_FAILING, true)
            }
        };
        was_told = told;
        tokio::time::sleep(pause).await;
    }
}
