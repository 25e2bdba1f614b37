//! Affinity: the policy that keeps a client on a backend, and what a client presents.

pub mod cookie;
pub mod keyring;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header;
use rand::Rng;

use self::cookie::{Attributes, CANDIDATES_MAX, CookiePolicy, Scheme};
use self::keyring::Keyring;
use self::token::{ClientId, Limits, Notes, Opened, Sealer, Token, TokenError, seconds};
use super::app::backend::Backend;
use super::assign::Cause;
use super::name::AppName;

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
}

/// The affinity of one app, ready for requests: policy, keys, and everything rendered beforehand.
#[derive(Clone, Debug)]
pub struct Affinity {
    /// What the operator asked for.
    pub policy: AffinityPolicy,
    attributes: Attributes,
    sealer: Arc<Sealer>,
    /// Sealers of the apps that share a domain with this one: their tokens are told from forged ones.
    neighbours: Box<[Arc<Sealer>]>,
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
    /// A quarter of the idle life is gone, or the key is no longer the newest.
    Due,
    /// Nothing changed: the cookie is not sent again.
    NotDue,
}

/// What a client showed us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presented {
    /// Nothing it would be known by.
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
        let sealer = Arc::new(Sealer::new(keyring, &policy.cookie.name, app));
        Self { policy, attributes, sealer, neighbours: Box::default() }
    }

    /// Tells the affinity whose tokens may stray here.
    pub fn set_neighbours(&mut self, neighbours: Vec<Arc<Sealer>>) {
        self.neighbours = neighbours.into();
    }

    /// Seals and opens the tokens of this app.
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }

    /// The name of the cookie.
    pub fn cookie_name(&self) -> &str {
        &self.policy.cookie.name
    }

    /// Reads what the client showed, at `now` (Unix seconds).
    ///
    /// Several cookies of ours are judged by validity, not by order; among valid ones the last
    /// renewed wins. At most [`CANDIDATES_MAX`] are opened.
    pub fn read(&self, headers: &HeaderMap, now: u64) -> Presented {
        let mut best: Option<Opened> = None;
        let mut first_error = None;
        let cookies = headers.get_all(header::COOKIE).iter();
        let candidates =
            cookies.flat_map(|line| cookie::values(line.as_bytes(), self.cookie_name()));
        for value in candidates.take(CANDIDATES_MAX) {
            match self.open(value, now) {
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

    /// Opens one value at `now` (Unix seconds).
    ///
    /// # Errors
    /// `Malformed`, `UnknownKey`, `WrongApp`, `Forged`, `ExpiredLifetime`, `ExpiredIdle`.
    pub fn open(&self, value: &[u8], now: u64) -> Result<Opened, TokenError> {
        let opened = match self.sealer.open(value) {
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
        let due = !opened.newest_key || opened.token.renewal_is_due(now, &self.policy.limits);
        let renewal = if due { Renewal::Due } else { Renewal::NotDue };
        Pin { token: opened.token, renewal }
    }

    /// Whether a first visit makes a pin. If not, it goes anywhere, and so does the next request.
    pub fn pins_first_visits(&self) -> bool {
        true
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
            Presented::Key(key) => ClientId::new(key.place),
            Presented::Nothing | Presented::Unusable(_) => ClientId::draw(rng),
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

    /// The value of the `Set-Cookie` that hands `token` to a client, at `now` (Unix seconds).
    pub fn set_cookie(&self, token: &Token, scheme: Scheme, now: u64) -> String {
        let sealed = self.sealer.seal(token);
        let age = Duration::from_secs(now.saturating_sub(u64::from(token.issued)));
        let limits = &self.policy.limits;
        let max_age = match limits.lifetime {
            Some(lifetime) => limits.idle.min(lifetime.saturating_sub(age)),
            None => limits.idle,
        };
        self.attributes.set_cookie(self.cookie_name(), sealed.as_str(), scheme, max_age)
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
