//! What is due, and getting it: one name after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::certificate::Certificate;
use super::client::Client;
use super::failure::OrderError;
use super::files::{Failed, Files, Journal};
use super::order::{Ordering as Order, Wish};
use super::schedule;
use crate::config::acme::{Acme, Challenge};
use crate::issued::{Issued, Standing};
use crate::outbound::Outbound;
use crate::shared::{Clock, Tallies};

/// The longest sleep, so that it is noticed when the clock is set or the machine slept.
const LOOK: Duration = Duration::from_secs(60);

/// How often the server is asked when a certificate is to be renewed, at most and at least (RFC 9773 §4.3.2), in
/// seconds.
const ASK: std::ops::RangeInclusive<u64> = 3600..=86_400;

/// The pause at least when the server says that there were too many orders.
const RATE_LIMITED: u64 = 3600;

/// Who gets certificates.
pub(super) struct Desk<'d> {
    settings: &'d Acme,
    files: Files,
    client: Client,
    issued: &'d Arc<Issued>,
    tallies: &'d Tallies,
    clock: Clock,
    journal: Journal,
    names: BTreeMap<Box<str>, Held>,
}

/// What is had for a name.
#[derive(Default)]
struct Held {
    certificate: Option<Certificate>,
    /// When it is renewed, in Unix seconds.
    renewal: u64,
    /// When the server is asked for that again, in Unix seconds.
    ask: u64,
    /// Whether the server said when: then it is told which certificate another one takes the place of.
    is_suggested: bool,
}

impl<'d> Desk<'d> {
    /// With what is kept.
    pub(super) fn new(
        settings: &'d Acme,
        files: Files,
        names: &BTreeSet<Box<str>>,
        issued: &'d Arc<Issued>,
        tallies: &'d Tallies,
        clock: Clock,
    ) -> Self {
        let mut journal = files.journal();
        journal.failed.retain(|name, _| names.contains(name));
        let held = names.iter().map(|name| (name.clone(), Held::of(files.certificate(name))));
        let names = held.collect();
        // Not the file: it may have changed since it was checked.
        let authority = settings.ca.as_ref().map(|ca| &*ca.pem);
        let client = Client(Arc::new(Outbound::trusting(authority)));
        Self { settings, files, client, issued, tallies, clock, journal, names }
    }

    /// Serves what is had, and tells how it stands.
    pub(super) fn show(&self) {
        let key = |held: &Held| Some(Arc::clone(&held.certificate.as_ref()?.key));
        let served = self.names.iter().filter_map(|(name, held)| Some((name.clone(), key(held)?)));
        self.issued.serve(served.collect());
        let now = self.now();
        let standings = self.names.iter().map(|(name, held)| {
            let failed = self.journal.failed.get(name);
            Standing {
                name: name.clone(),
                expires: held.certificate.as_ref().map(|one| one.lifetime.not_after),
                next: self.due(name, held).max(schedule::allowed(&self.journal.orders, now)),
                failures: failed.map_or(0, |failed| failed.times),
                error: failed.map(|failed| failed.error.clone()),
            }
        });
        self.issued.tell(standings.collect());
    }

    /// Does the next thing that is due, or sleeps until something is.
    pub(super) async fn work(&mut self) {
        let now = self.now();
        schedule::forget(&mut self.journal.orders, now);
        let allowed = schedule::allowed(&self.journal.orders, now);
        let earliest = self.names.iter().map(|(name, held)| (self.due(name, held), name));
        let Some((due, name)) = earliest.min() else { return std::future::pending().await };
        let due = due.max(allowed);
        let (asked, whom) = match self.names.iter().map(|(name, held)| (held.ask, name)).min() {
            Some((ask, whom)) => (ask, whom.clone()),
            None => (u64::MAX, name.clone()),
        };
        if asked <= now {
            self.ask(&whom).await;
        } else if due <= now {
            let name = name.clone();
            self.order(&name, now).await;
        } else {
            let seconds = due.min(asked) - now;
            tokio::time::sleep(LOOK.min(Duration::from_secs(seconds))).await;
        }
    }

    fn now(&self) -> u64 {
        self.clock.unix().as_secs()
    }

    /// When a name is to be ordered.
    fn due(&self, name: &str, held: &Held) -> u64 {
        self.journal.failed.get(name).map_or(held.renewal, |failed| failed.next)
    }

    /// Asks the server when a certificate is to be renewed.
    async fn ask(&mut self, name: &str) {
        let now = self.now();
        let suggested = self.suggestion(name).await;
        let Some(held) = self.names.get_mut(name) else { return };
        held.ask = now + ASK.end();
        let Some(lifetime) = held.certificate.as_ref().map(|one| one.lifetime) else { return };
        match suggested {
            Ok(Some((window, again))) => {
                held.ask = now + again.as_secs().clamp(*ASK.start(), *ASK.end());
                let moment = schedule::within(window.0, window.1, rand::random());
                held.renewal = moment.clamp(lifetime.earliest(), lifetime.latest());
                held.is_suggested = true;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(name, %error, "the ACME server does not say when to renew");
                held.ask = now + ASK.start();
            }
        }
        self.show();
    }

    /// When the server suggests to renew (Unix seconds), and when to ask again; `None`: it suggests nothing.
    async fn suggestion(&self, name: &str) -> Result<Option<((u64, u64), Duration)>, OrderError> {
        let certificate = self.names.get(name).and_then(|held| held.certificate.as_ref());
        let Some(id) = certificate.and_then(|one| one.id.as_ref()) else { return Ok(None) };
        let account = self.ordering().account().await?;
        let (info, again) = match account.renewal_info(id).await {
            Err(instant_acme::Error::Unsupported(_)) => return Ok(None),
            answer => answer?,
        };
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let window = info.suggested_window;
        let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
        Ok(Some((window, again)))
    }

    fn ordering(&self) -> Order<'_> {
        Order {
            settings: self.settings,
            files: &self.files,
            client: &self.client,
            issued: self.issued,
        }
    }

    async fn order(&mut self, name: &str, now: u64) {
        let failed = self.journal.failed.get(name);
        let (times, unanswered) = failed.map_or((0, 0), |failed| (failed.times, failed.unanswered));
        let held = self.names.get(name);
        // After a failure without: the server may not know the certificate any more.
        let replaced = held.filter(|held| held.is_suggested && times == 0);
        let replaces = replaced.and_then(|held| held.certificate.as_ref()?.id.as_ref());
        let wish = Wish { name, challenge: self.challenge(unanswered), replaces };
        let mut journal = self.journal.clone();
        let obtained = self.ordering().obtain(&wish, &mut journal, now).await;
        self.journal = journal;
        match obtained {
            Ok(certificate) => self.issued(name, certificate),
            Err(error) => {
                let unanswered = unanswered + u32::from(error.is_of_challenge());
                self.failed(name, times + 1, unanswered, &error);
            }
        }
        if let Err(error) = self.files.keep_journal(&self.journal) {
            let help = "see to it that Homing may write to its state directory";
            tracing::error!(%error, help, "cannot keep what is known of orders");
        }
        self.show();
    }

    /// Which challenge is tried: the preferred one first, after one that was not answered the next one.
    fn challenge(&self, unanswered: u32) -> Challenge {
        let challenges = &self.settings.challenges;
        let turn = usize::try_from(unanswered).unwrap_or(0) % challenges.len().max(1);
        challenges.get(turn).copied().unwrap_or(Challenge::TlsAlpn01)
    }

    fn issued(&mut self, name: &str, certificate: Certificate) {
        self.tallies.acme_issued.fetch_add(1, Ordering::Relaxed);
        self.journal.failed.remove(name);
        let expires = certificate.lifetime.not_after;
        tracing::info!(name, expires, "certificate issued");
        let mut held = Held::of(Some(certificate));
        // Whatever clocks and servers say: not at once again.
        held.renewal = held.renewal.max(self.now() + self.settings.retry_after.as_secs());
        self.names.insert(name.into(), held);
    }

    fn failed(&mut self, name: &str, times: u32, unanswered: u32, error: &OrderError) {
        self.tallies.acme_failed.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let mut pause = schedule::pause(self.settings.retry_after, times, rand::random());
        if error.is_rate_limited() {
            pause = pause.max(RATE_LIMITED);
        }
        let failed =
            Failed { times, unanswered, next: now + pause, error: error.to_string().into() };
        self.journal.failed.insert(name.into(), failed);
        let held = self.names.get(name).and_then(|held| held.certificate.as_ref());
        let help = error.help();
        match held.filter(|one| one.lifetime.not_after > now) {
            Some(one) => {
                let expires = one.lifetime.not_after;
                tracing::warn!(name, %error, help, retry_s = pause, expires, "certificate not renewed");
            }
            None => tracing::error!(name, %error, help, retry_s = pause, "no certificate"),
        }
    }
}

impl Held {
    fn of(certificate: Option<Certificate>) -> Self {
        let Some(certificate) = certificate else {
            return Self { ask: u64::MAX, ..Self::default() };
        };
        let renewal = certificate.lifetime.renewal(rand::random());
        // The server is asked first: `ask` is 0.
        Self { certificate: Some(certificate), renewal, ..Self::default() }
    }
}
