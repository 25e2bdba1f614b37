//! What is due, and getting it: one name after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::certificate::Certificate;
use super::client::Client;
use super::failure::OrderError;
use super::files::{Asked, Failed, Files, Journal};
use super::order::{Ordering as Order, Wish};
use super::schedule::{self, Next};
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
        let journal = files.journal();
        let now = clock.unix().as_secs();
        let held = |name: &str| Held::of(files.certificate(name), journal.asked.get(name), now);
        let names = names.iter().map(|name| (name.clone(), held(name))).collect();
        // Not the file: it may have changed since it was checked.
        let authority = settings.ca.as_ref().map(|ca| &*ca.pem);
        let client = Client(Arc::new(Outbound::trusting(authority)));
        Self { settings, files, client, issued, tallies, clock, journal, names }
    }

    /// Forgets names that are not wanted any more, for good: one that comes back is tried at once. Only who has the
    /// right to order does so.
    pub(super) fn forget(&mut self) {
        let names = &self.names;
        if self.journal.forget_others(|name| names.contains_key(name)) {
            self.keep_journal();
        }
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
        let due = self.names.iter().map(|(name, held)| (self.due(name, held), &**name)).min();
        let asked = self.names.iter().map(|(name, held)| (held.ask, &**name)).min();
        match schedule::next(due, allowed, asked, now) {
            Some(Next::Order(name)) => {
                let name = name.to_owned();
                self.order(&name, now).await;
            }
            Some(Next::Ask(name)) => {
                let name = name.to_owned();
                self.ask(&name).await;
            }
            Some(Next::Sleep(seconds)) => {
                tokio::time::sleep(LOOK.min(Duration::from_secs(seconds))).await;
            }
            None => std::future::pending().await,
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
        let renewal = held.is_suggested.then_some(held.renewal);
        let asked = Asked { expires: lifetime.not_after, again: held.ask, renewal };
        self.journal.asked.insert(name.into(), asked);
        self.keep_journal();
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
        self.keep_journal();
        self.show();
    }

    fn keep_journal(&self) {
        if let Err(error) = self.files.keep_journal(&self.journal) {
            let help = "see to it that Homing may write to its state directory";
            tracing::error!(%error, help, "cannot keep what is known of orders");
        }
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
        self.journal.asked.remove(name);
        let expires = certificate.lifetime.not_after;
        tracing::info!(name, expires, "certificate issued");
        let mut held = Held::of(Some(certificate), None, self.now());
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
    /// With what the server said of the certificate, if it was asked.
    fn of(certificate: Option<Certificate>, asked: Option<&Asked>, now: u64) -> Self {
        let Some(certificate) = certificate else {
            return Self { ask: u64::MAX, ..Self::default() };
        };
        let lifetime = certificate.lifetime;
        let asked = asked.filter(|asked| asked.expires == lifetime.not_after);
        let suggested = asked.and_then(|asked| asked.renewal);
        let renewal = suggested.unwrap_or_else(|| lifetime.renewal(rand::random()));
        // 0 is at once; one that is too far away was said before the clock was set back.
        let again = asked.map(|asked| asked.again).filter(|again| *again <= now + ASK.end());
        let ask = again.unwrap_or(0);
        Self { certificate: Some(certificate), renewal, ask, is_suggested: suggested.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::KeyPem;
    use super::*;

    const NAME: &str = "a.example.com";

    fn settings() -> Acme {
        Acme {
            directory: "https://acme.example.com/directory".into(),
            contact: Vec::new(),
            challenges: vec![Challenge::Http01],
            ca: None,
            external_account: None,
            retry_after: Duration::from_secs(300),
        }
    }

    /// What is held for the name after a start with such a journal, and the journal that is left.
    fn start(journal: &Journal, names: &[&str], pem: &str) -> (Option<(u64, u64, bool)>, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let (settings, issued, tallies) = (settings(), Arc::default(), Tallies::default());
        let files = Files::new(directory.path(), &settings.directory);
        let _lock = files.lock().unwrap().unwrap();
        files.keep_certificate(NAME, pem).unwrap();
        files.keep_journal(journal).unwrap();
        let names = names.iter().map(|name| Box::from(*name)).collect();
        let clock = Clock::start();
        let mut desk = Desk::new(&settings, files.clone(), &names, &issued, &tallies, clock);
        desk.forget();
        let held = desk.names.get(NAME).map(|held| (held.ask, held.renewal, held.is_suggested));
        (held, files.journal())
    }

    fn pem() -> String {
        let key = KeyPem::make().unwrap();
        let params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
        let pair = rcgen::KeyPair::from_pem(key.secret()).unwrap();
        format!("{}{}", key.secret(), params.self_signed(&pair).unwrap().pem())
    }

    #[test]
    fn a_name_that_is_not_wanted_any_more_is_forgotten_for_good() {
        let failed = Failed { times: 3, unanswered: 0, next: u64::MAX, error: "no".into() };
        let asked = Asked { expires: 1, again: 2, renewal: None };
        let all = ["a.example.com", "b.example.com"];
        let journal = Journal {
            orders: vec![7],
            failed: all.map(|name| (name.into(), failed.clone())).into(),
            asked: all.map(|name| (name.into(), asked)).into(),
            pending: None,
        };
        for left in [&all[..], &all[1..], &[]] {
            let (_, kept) = start(&journal, left, "");
            assert!(kept.failed.keys().map(|name| &**name).eq(left.iter().copied()), "{kept:?}");
            assert!(kept.asked.keys().map(|name| &**name).eq(left.iter().copied()), "{kept:?}");
            assert_eq!(kept.orders, [7], "they count whoever they were for");
        }
    }

    #[test]
    fn no_start_asks_the_server_again_before_it_said_so() {
        let pem = pem();
        let expires = Certificate::read(&pem, NAME).unwrap().lifetime.not_after;
        let again = Clock::start().unix().as_secs() + 3000;
        let held = |asked: Option<Asked>| {
            let asked = asked.map(|asked| (NAME.into(), asked)).into_iter().collect();
            start(&Journal { asked, ..Journal::default() }, &[NAME], &pem).0.unwrap()
        };
        let asked = Asked { expires, again, renewal: Some(12_345) };
        assert_eq!(held(Some(asked)), (again, 12_345, true));
        let (ask, renewal, is_suggested) = held(Some(Asked { renewal: None, ..asked }));
        assert_eq!((ask, is_suggested), (again, false));
        assert!((12_346..expires).contains(&renewal), "by its life");
        let another = Asked { expires: expires - 1, ..asked };
        let set_back = Asked { again: again + ASK.end(), ..asked };
        assert_eq!(held(Some(set_back)).0, 0);
        for none in [None, Some(another)] {
            assert_eq!((held(none).0, held(none).2), (0, false), "it is asked at once");
        }
    }
}
