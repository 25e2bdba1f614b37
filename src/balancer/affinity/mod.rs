//! Affinity: the policy that keeps a client on a backend, and what a client presents.

pub mod cookie;
pub mod first_visit;
pub mod foreign;
pub mod keyring;
pub mod memo;
pub mod start;
pub mod token;
pub mod way;
pub mod word;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header;
use rand::Rng;

use self::cookie::{Attributes, CANDIDATES_MAX, CookiePolicy, Scheme};
use self::first_visit::{Alike, FirstVisit};
use self::foreign::ForeignCookie;
use self::keyring::Keyring;
use self::memo::Memo;
use self::start::StartOn;
use self::token::{
    BackendHash, ClientId, Limits, Notes, Opened, Sealed, Sealer, Token, TokenError, seconds,
};
use self::way::{Found, Shown, Way};
use super::app::backend::Backend;
use super::assign::Cause;
use super::name::AppName;
use super::rebalance::RebalancePolicy;

/// What happens to a pinned client whose backend takes nobody, where the state may still be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnUnavailable {
    /// Another backend stands in, the same for the same client; the pin stays, and is moved when the
    /// backend was closed for [`AffinityPolicy::borrow_limit`].
    Borrow,
    /// It is pinned to another backend.
    Move,
    /// It gets an error of ours and keeps its pin: for apps that would rather fail than lose state.
    Refuse,
    /// Its request waits for the backend, for [`AffinityPolicy::wait_limit`] at most; then it is pinned to
    /// another one. A backend in maintenance is not waited for.
    Wait,
}

/// What happens to a pinned client whose backend is another run of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnIncarnationChange {
    /// It stays there: the state outlives the run.
    Follow,
    /// It is pinned anew, to any backend: the state is gone.
    Move,
    /// It gets an error of ours, until its pin is gone.
    Refuse,
}

/// What happens to a response that shared caches may keep (RFC 9111 §3) and that would get our cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnCacheable {
    /// It gets the cookie and is marked `private`, so that no shared cache hands it to other clients.
    MarkPrivate,
    /// It is left alone, cacheable and without the cookie; a later response carries it.
    LeaveAlone,
}

/// How an app keeps clients on their backends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AffinityPolicy {
    /// How the cookie looks.
    pub cookie: CookiePolicy,
    /// How long a pin lives.
    pub limits: Limits,
    /// What happens when the backend of a pin takes nobody.
    pub on_unavailable: OnUnavailable,
    /// How long a backend may be closed before its clients are moved, where others stand in for it; and how long
    /// after its pin was made a client is lent, whose backend is on a newer list of another edge.
    pub borrow_limit: Duration,
    /// How long a request waits for the backend of its pin, where it does.
    pub wait_limit: Duration,
    /// What happens when the backend of a pin is another run of itself.
    pub on_incarnation_change: OnIncarnationChange,
    /// What happens to cacheable responses.
    pub on_cacheable: OnCacheable,
    /// How clients are evened out among the backends; `None`: they stay where they are.
    pub rebalance: Option<RebalancePolicy>,
    /// Cookies of other load balancers that clients are known by as long as they have none of ours; the
    /// first that leads to a backend counts.
    pub adopt: Arc<[ForeignCookie]>,
    /// When pins begin.
    pub start_on: StartOn,
    /// Whether the word of the app counts ([`word::AppWord`]).
    pub obey_app: bool,
    /// How clients are known, in order of preference: the first that a request shows decides.
    pub identify_by: Box<[Way]>,
    /// How the backend of a first visit is drawn.
    pub first_visit: FirstVisit,
}

/// The affinity of one app, ready for requests: policy, keys, and everything rendered beforehand.
#[derive(Clone, Debug)]
pub struct Affinity {
    /// What the operator asked for.
    pub policy: AffinityPolicy,
    attributes: Attributes,
    /// How old a token may get before it is sealed anew.
    renewal: Duration,
    /// Since when that has been so short that clients may be rebalanced by it, in Unix seconds.
    rebalancing_since: u64,
    twin: Option<Twin>,
    sealer: Arc<Sealer>,
    /// Whether our cookie is one of the ways a client is known.
    cookie: HandOut,
    /// `None`: first visits are drawn by chance.
    alike: Option<Alike>,
    /// Sealers of the apps that share a domain with this one: their tokens are told from forged ones.
    neighbours: Box<[Arc<Sealer>]>,
}

/// The second cookie of an app, which carries the same token as the first.
#[derive(Clone, Debug)]
struct Twin {
    name: Box<str>,
    attributes: Attributes,
}

/// A pin that a client presented and that is ours and in date.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin {
    /// What the token says.
    pub token: Token,
    /// Whether the token is to be sealed anew on the response of this request.
    pub renewal: Renewal,
}

impl Pin {
    /// Uniform bits that stand for the client.
    pub fn mark(&self) -> u64 {
        self.token.client.mark()
    }
}

/// A client that is known by something else than our cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    /// Uniform bits that stand for what it is known by: the same on all edges.
    pub place: u64,
    /// The backend that it names, if it names one of the list; else the place decides.
    pub home: Option<BackendHash>,
    /// Why its cookie or its session was not honoured, if it showed one.
    pub lost: Option<Cause>,
    /// Whether it is to get our cookie all the same.
    pub cookie: HandOut,
}

/// Whether a client gets our cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandOut {
    /// It does not.
    No,
    /// It does.
    Yes,
}

/// Whether a followed pin gets a new token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// A quarter of the idle life is gone (less where clients are rebalanced), or the key is no longer the
    /// newest.
    Due,
    /// Nothing changed: the cookie is not sent again.
    NotDue,
    /// The client has no cookie of ours yet.
    Unsent,
}

/// What a client showed us.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Presented {
    /// Nothing it would be known by.
    #[default]
    Nothing,
    /// Something else than our cookie.
    Key(Key),
    /// A pin to honour.
    Pin(Pin),
    /// Cookies of ours, none of them to be honoured; the reason of the first.
    Unusable(Cause),
}

impl Affinity {
    /// Makes the affinity of an app ready for requests.
    pub fn new(policy: AffinityPolicy, app: &AppName, keyring: &Keyring) -> Self {
        let attributes = Attributes::render(&policy.cookie);
        let attributes_of_twin = || Attributes::render_twin(&policy.cookie);
        let twin =
            policy.cookie.twin_name().map(|name| Twin { name, attributes: attributes_of_twin() });
        let sealer = Arc::new(Sealer::new(keyring, &policy.cookie.name, app));
        let renewal = policy.limits.idle / 4;
        let renewal = policy.rebalance.map_or(renewal, |own| own.renewal().min(renewal));
        let cookie = match policy.identify_by.contains(&Way::Cookie) {
            true => HandOut::Yes,
            false => HandOut::No,
        };
        let alike = match policy.first_visit {
            FirstVisit::ByClient(epoch) => Some(Alike::new(&keyring.keys()[0], app, epoch)),
            FirstVisit::Random => None,
        };
        let neighbours = Box::default();
        let rebalancing_since = 0;
        Self {
            policy,
            attributes,
            renewal,
            rebalancing_since,
            twin,
            sealer,
            cookie,
            alike,
            neighbours,
        }
    }

    /// Tells the affinity whose tokens may stray here.
    pub fn set_neighbours(&mut self, neighbours: Vec<Arc<Sealer>>) {
        self.neighbours = neighbours.into();
    }

    /// Whether there are others whose tokens may stray here.
    pub(super) fn has_neighbours(&self) -> bool {
        !self.neighbours.is_empty()
    }

    /// Says since when cookies are renewed in the rhythm of the rebalancing: since `last` did, unless the rhythm is a
    /// faster one now; else since `taken` (Unix seconds).
    pub(super) fn rebalances_since(&mut self, last: Option<&Self>, taken: u64) {
        let rhythm = |own: &Self| own.policy.rebalance.map(|policy| policy.idle);
        let own = rhythm(self);
        let last = last.filter(|last| rhythm(last).is_some_and(|last| own >= Some(last)));
        self.rebalancing_since = last.map_or(taken, |last| last.rebalancing_since);
    }

    /// Whether a client may be moved to even out load, as far as its cookie says, at `now` (Unix seconds).
    pub fn may_move(&self, pin: &Pin, now: u64) -> bool {
        let since = self.rebalancing_since;
        self.policy.rebalance.is_some_and(|policy| policy.allows(pin, since, now))
    }

    /// Whether its cookie says that a client was idle for `factor` times as long as it must, at `now` (Unix seconds).
    pub fn was_idle(&self, pin: &Pin, factor: u32, now: u64) -> bool {
        let since = self.rebalancing_since;
        self.policy.rebalance.is_some_and(|policy| policy.is_idle(pin, factor, since, now))
    }

    /// Seals and opens the tokens of this app.
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }

    /// The name of the cookie. Tokens are bound to it, those in the twin as well.
    pub fn cookie_name(&self) -> &str {
        &self.policy.cookie.name
    }

    /// The names under which tokens may come: that of the cookie, and that of its twin if it has one.
    pub fn cookie_names(&self) -> impl Iterator<Item = &str> {
        let twin = self.twin.as_ref().map(|twin| &*twin.name);
        std::iter::once(self.cookie_name()).chain(twin)
    }

    /// Whether our cookie is read, taken out of requests and handed to clients.
    pub fn uses_cookie(&self) -> bool {
        self.cookie == HandOut::Yes
    }

    /// Reads what the client showed, at `now` (Unix seconds): the first of the app's ways to know a client that
    /// is there decides. `listed` says whether the app has this backend.
    ///
    /// A client that is known by what stands behind our cookie on the list gets our cookie as well; one that is
    /// known by what stands before it, or without it, gets none.
    pub fn identify(
        &self,
        shown: &Shown<'_>,
        listed: impl Fn(BackendHash) -> bool,
        now: u64,
    ) -> Presented {
        match &*self.policy.identify_by {
            [Way::Cookie] => self.read_again(shown.headers, shown.memo, now),
            ways => self.identify_by(ways, shown, listed, now),
        }
    }

    fn identify_by(
        &self,
        ways: &[Way],
        shown: &Shown<'_>,
        listed: impl Fn(BackendHash) -> bool,
        now: u64,
    ) -> Presented {
        let (mut cookie, mut lost, mut gone) = (HandOut::No, None, None);
        for way in ways {
            if *way == Way::Cookie {
                cookie = HandOut::Yes;
                match self.read_again(shown.headers, shown.memo, now) {
                    pinned @ Presented::Pin(_) => return pinned,
                    Presented::Unusable(cause) => lost = Some(cause),
                    Presented::Key(_) | Presented::Nothing => {}
                }
                continue;
            }
            match way.look(shown, &listed) {
                Found::Absent => {}
                Found::Gone(place) => gone = gone.or(Some(place)),
                Found::Home(place, home) => {
                    return Presented::Key(Key { place, home: Some(home), lost, cookie });
                }
                Found::Place(place) => {
                    return Presented::Key(Key { place, home: None, lost, cookie });
                }
            }
        }
        match (gone, lost) {
            (Some(place), lost) => {
                let lost = lost.or(Some(Cause::Removed));
                Presented::Key(Key { place, home: None, lost, cookie })
            }
            (None, Some(cause)) => Presented::Unusable(cause),
            (None, None) => Presented::Nothing,
        }
    }

    /// Where the backend of a client is drawn that presented this at `now` (Unix seconds), if that is not left to
    /// chance: the same for all requests of a client for a while.
    pub fn place(&self, presented: &Presented, shown: &Shown<'_>, now: u64) -> Option<u64> {
        let alike = self.alike.as_ref()?;
        match presented {
            Presented::Nothing | Presented::Unusable(_) => Some(alike.place(shown, now)),
            Presented::Key(_) | Presented::Pin(_) => None,
        }
    }

    /// Reads our cookie, at `now` (Unix seconds).
    ///
    /// Several cookies of ours are judged by validity, not by order; among valid ones the last
    /// renewed wins. At most [`CANDIDATES_MAX`] are opened, each value once.
    pub fn read(&self, headers: &HeaderMap, now: u64) -> Presented {
        self.read_again(headers, None, now)
    }

    /// The same on a connection that may have brought it before.
    fn read_again(&self, headers: &HeaderMap, memo: Option<&Memo>, now: u64) -> Presented {
        let mut best: Option<Opened> = None;
        let mut first_error = None;
        let mut opened: [&[u8]; CANDIDATES_MAX] = [&[]; CANDIDATES_MAX];
        let mut count = 0;
        let cookies = headers.get_all(header::COOKIE).iter();
        let candidates = cookies.flat_map(|line| self.values(line.as_bytes()));
        for value in candidates {
            if opened[..count].contains(&value) {
                continue;
            }
            let Some(place) = opened.get_mut(count) else { break };
            *place = value;
            count += 1;
            match self.open_again(value, memo, now) {
                Ok(opened) if best.is_none_or(|b| b.token.renewed < opened.token.renewed) => {
                    best = Some(opened);
                }
                Ok(_) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match (best, first_error) {
            (Some(opened), _) => {
                self.sealer.note_use(opened.key, now);
                Presented::Pin(self.pin(&opened, now))
            }
            (None, Some(error)) => Presented::Unusable(error.into()),
            (None, None) => Presented::Nothing,
        }
    }

    /// The values of our cookie and its twin in one `Cookie` header.
    pub fn values<'a>(&'a self, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.cookie_names().flat_map(|name| cookie::values(line, name))
    }

    /// One `Cookie` header without our cookie and its twin; see [`cookie::without`].
    pub fn without(&self, line: &[u8]) -> Option<Vec<u8>> {
        let kept = cookie::without(line, self.cookie_name());
        let Some(twin) = &self.twin else { return kept };
        let line = kept.as_deref().unwrap_or(line);
        cookie::without(line, &twin.name).or(kept)
    }

    /// Opens one value at `now` (Unix seconds).
    ///
    /// # Errors
    /// `Malformed`, `UnknownKey`, `WrongApp`, `Forged`, `ExpiredLifetime`, `ExpiredIdle`.
    pub fn open(&self, value: &[u8], now: u64) -> Result<Opened, TokenError> {
        self.open_again(value, None, now)
    }

    fn open_again(
        &self,
        value: &[u8],
        memo: Option<&Memo>,
        now: u64,
    ) -> Result<Opened, TokenError> {
        let opened = match memo {
            Some(memo) => memo.open(&self.sealer, value),
            None => self.sealer.open(value),
        };
        let opened = match opened {
            Err(TokenError::Forged) => {
                let stray = self.neighbours.iter().any(|sealer| sealer.open(value).is_ok());
                return Err(if stray { TokenError::WrongApp } else { TokenError::Forged });
            }
            other => other?,
        };
        opened.token.check_age(now, &self.policy.limits)?;
        Ok(opened)
    }

    fn pin(&self, opened: &Opened, now: u64) -> Pin {
        let due = !opened.newest_key || opened.token.renewal_is_due(now, self.renewal);
        let renewal = if due { Renewal::Due } else { Renewal::NotDue };
        Pin { token: opened.token, renewal }
    }

    /// Whether a first visit makes a pin. If not, it goes anywhere, and so does the next request.
    pub fn pins_first_visits(&self) -> bool {
        self.uses_cookie() && self.policy.start_on == StartOn::FirstRequest
    }

    /// A token for `backend`, made at `now` (Unix seconds) for the client that presented this, or for
    /// somebody new.
    pub fn token(
        &self,
        backend: &Backend,
        presented: &Presented,
        now: u64,
        rng: &mut impl Rng,
    ) -> Token {
        let client = match presented {
            Presented::Pin(pin) => pin.token.client,
            // What it is known by may be that of many: its cookie is its own.
            Presented::Key(_) | Presented::Nothing | Presented::Unusable(_) => ClientId::draw(rng),
        };
        token(client, backend, now)
    }

    /// What the pin of a client would be that is known by `key` and belongs to `backend`.
    pub fn keyed(&self, backend: &Backend, key: &Key, now: u64) -> Pin {
        let renewal = match key.cookie {
            HandOut::Yes => Renewal::Due,
            HandOut::No => Renewal::NotDue,
        };
        Pin { token: token(ClientId::new(key.place), backend, now), renewal }
    }

    /// The pin of somebody new whom a foreign cookie leads to `backend`: made at `now` (Unix seconds), and to be
    /// handed out.
    pub fn adopted(&self, backend: &Backend, now: u64, rng: &mut impl Rng) -> Pin {
        Pin { token: token(ClientId::draw(rng), backend, now), renewal: Renewal::Unsent }
    }

    /// The values of `Set-Cookie` that hand `token` to a client, at `now` (Unix seconds): the cookie, then its
    /// twin if it has one.
    pub fn set_cookies(
        &self,
        token: &Token,
        scheme: Scheme,
        now: u64,
    ) -> impl Iterator<Item = String> {
        let sealed = self.sealer.seal(token);
        let age = Duration::from_secs(now.saturating_sub(u64::from(token.issued)));
        let limits = &self.policy.limits;
        let max_age = match limits.lifetime {
            Some(lifetime) => limits.idle.min(lifetime.saturating_sub(age)),
            None => limits.idle,
        };
        self.lines(Some(sealed), scheme, max_age)
    }

    /// The values of `Set-Cookie` that take the token back from a client.
    pub fn delete_cookies(&self, scheme: Scheme) -> impl Iterator<Item = String> {
        self.lines(None, scheme, Duration::ZERO)
    }

    fn lines(
        &self,
        sealed: Option<Sealed>,
        scheme: Scheme,
        max_age: Duration,
    ) -> impl Iterator<Item = String> {
        let own = std::iter::once((self.cookie_name(), &self.attributes));
        let twin = self.twin.iter().map(|twin| (&*twin.name, &twin.attributes));
        own.chain(twin).map(move |(name, attributes)| {
            let value = sealed.as_ref().map_or("", Sealed::as_str);
            attributes.set_cookie(name, value, scheme, max_age)
        })
    }
}

/// A token that is made at `now` (Unix seconds).
fn token(client: ClientId, backend: &Backend, now: u64) -> Token {
    Token {
        client,
        notes: Notes::default(),
        backend: backend.hash,
        incarnation: backend.incarnation_hash,
        issued: seconds(now),
        renewed: seconds(now),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin_tests;
