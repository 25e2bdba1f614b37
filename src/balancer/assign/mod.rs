//! The heart: one request, one decision.
//!
//! [`assign`] returns one value from which the cookie, the metric, the log field and the status page
//! derive. No other place invents a reason.

mod crowd;
pub mod moved;
mod outcome;

use rand::Rng;

use self::crowd::Crowd;
pub use self::crowd::{Pressure, Queued, admit};
pub use self::outcome::{Cause, Outcome};

use super::affinity::token::{Notes, Token};
use super::affinity::word::AppWord;
use super::affinity::{
    Affinity, HandOut, Key, OnIncarnationChange, OnUnavailable, Pin, Presented, Renewal,
};
use super::app::backend::Slot;
use super::app::members::{Admission, Closed};
use super::app::view::{AppView, Tried};

/// Where a request goes, and what happens to its pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Assignment {
    /// To this backend, which stands in for the one of its pin.
    Borrow(Slot, Cause),
    /// To the backend of its pin.
    Follow(Slot, Pin),
    /// To the backend of its pin, unless its client is moved to even out load: to be settled.
    FollowOrMove(Slot, Pin),
    /// To this backend, which becomes its first.
    Make(Slot),
    /// To this backend, which replaces its last one.
    Move(Slot, Cause),
    /// Nowhere; why.
    Refuse(Refusal),
    /// To any backend, and the next request to any other: the app keeps no client, or has not begun to.
    Spread(Slot),
    /// Nowhere yet: a backend waits for its first verdict, or rests, or starts slowly. Ask again when
    /// something changed; when there is no time left, [`Assignment::give_up`].
    Wait(Waiting),
}

/// Why no backend takes a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The backend of the pin, or every one, had as much in flight as it may, and no place became free in time.
    BacklogTimeout,
    /// The app, the backend of the pin, or every one has as much in flight as it may.
    BacklogTooDeep,
    /// The app has as many connections as it may.
    ConnectionLimit,
    /// The operator closed the whole app.
    Maintenance,
    /// The app has no backend at all.
    NoBackend,
    /// None is open, and none will be before long. Holds the cause a pin was lost for, if any.
    NoneOpen(Option<Cause>),
    /// Every open one refused the connection and rests.
    NoneRested(Option<Cause>),
    /// The home of the pin takes nobody, and the app prefers an error over a move.
    PinLost(Cause),
    /// Homing runs out of memory or descriptors, and takes nobody new.
    Shed,
    /// Not one probe ended in time.
    Unknown(Option<Cause>),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// For the backend of its pin to come back; why it is away.
    Home(Cause),
    /// For a backend that is closed to open; holds the cause a pin was lost for, if any.
    Opening(Closed, Option<Cause>),
    /// For a place at the backend of its pin, which has as much in flight as it may.
    Place(Slot, Pin),
    /// For its turn at the backend of its pin, which starts slowly.
    Turn(Slot, Pin),
}

impl Assignment {
    /// The backend, if there is one.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Borrow(slot, _)
            | Self::Follow(slot, _)
            | Self::FollowOrMove(slot, _)
            | Self::Make(slot)
            | Self::Move(slot, _)
            | Self::Spread(slot) => Some(*slot),
            Self::Refuse(_) | Self::Wait(_) => None,
        }
    }

    /// What became of the pin.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Borrow(..) => Outcome::Borrowed,
            Self::Follow(..) | Self::FollowOrMove(..) => Outcome::Followed,
            Self::Wait(Waiting::Place(..) | Waiting::Turn(..)) => Outcome::Followed,
            Self::Make(_) => Outcome::Made,
            Self::Move(..) => Outcome::Moved,
            Self::Spread(_) => Outcome::Off,
            Self::Refuse(_) | Self::Wait(Waiting::Home(_) | Waiting::Opening(..)) => {
                Outcome::Refused
            }
        }
    }

    /// Why the pin was moved or the request refused.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Follow(..)
            | Self::FollowOrMove(..)
            | Self::Make(_)
            | Self::Spread(_)
            | Self::Wait(Waiting::Place(..) | Waiting::Turn(..)) => None,
            Self::Borrow(_, cause) | Self::Move(_, cause) => Some(*cause),
            Self::Wait(Waiting::Home(cause)) => Some(*cause),
            Self::Refuse(refusal) => refusal.cause(),
            Self::Wait(Waiting::Opening(_, lost)) => *lost,
        }
    }

    /// What it becomes when the response begins the pin of a client that had none.
    #[must_use]
    pub fn begun(self) -> Self {
        if let Self::Spread(slot) = self { Self::Make(slot) } else { self }
    }

    /// What it becomes when the response ends the pin of its client: one that was to be its first was never
    /// made. Any other was followed, moved or lent all the same.
    #[must_use]
    pub fn ended(self) -> Self {
        if let Self::Make(slot) = self { Self::Spread(slot) } else { self }
    }

    /// What a wait becomes when there is no time left: a refusal, or a pin followed before its turn.
    /// Anything else stays.
    #[must_use]
    pub fn give_up(self) -> Self {
        match self {
            Self::Wait(Waiting::Place(..)) => Self::Refuse(Refusal::BacklogTimeout),
            Self::Wait(Waiting::Turn(slot, pin)) => Self::Follow(slot, pin),
            Self::Wait(Waiting::Home(cause)) => Self::Refuse(Refusal::NoneOpen(Some(cause))),
            Self::Wait(Waiting::Opening(closed, lost)) => Self::Refuse(match closed {
                Closed::Unknown => Refusal::Unknown(lost),
                Closed::Quarantined => Refusal::NoneRested(lost),
                Closed::Drained | Closed::Ejected | Closed::Maintenance | Closed::Unhealthy => {
                    Refusal::NoneOpen(lost)
                }
            }),
            decided @ (Self::Borrow(..)
            | Self::Follow(..)
            | Self::FollowOrMove(..)
            | Self::Make(_)
            | Self::Move(..)
            | Self::Refuse(_)
            | Self::Spread(_)) => decided,
        }
    }
}

impl Assignment {
    /// Settles whether a client is moved that may be: to be asked once for a request. Anything else stays.
    #[must_use]
    pub fn settle(self, view: &AppView, request: &Request<'_>) -> Self {
        let Self::FollowOrMove(home, pin) = self else { return self };
        let moves = view.app.live.moves();
        match moves.settle(view, home, &pin, request) {
            Some(slot) => Self::Move(slot, Cause::Rebalanced),
            None => Self::Follow(home, pin),
        }
    }

    /// The token that a response hands to the client; `None`: the one it has, if any, will do. `word` is what the
    /// app said in the response.
    pub fn token(
        &self,
        view: &AppView,
        presented: &Presented,
        word: AppWord,
        now: u64,
        rng: &mut impl Rng,
    ) -> Option<Token> {
        let affinity = view.app.affinity.as_ref()?;
        let begins = word.start || affinity.pins_first_visits();
        let keeps_none =
            matches!(presented, Presented::Key(key) if key.cookie == HandOut::No || !begins);
        let may_move = word.may_move && affinity.policy.rebalance.is_some();
        let noted =
            |token: Token, rebalanced| Token { notes: Notes { may_move, rebalanced }, ..token };
        let mut made = |slot: Slot, rebalanced| {
            noted(affinity.token(view.app.backend(slot), presented, now, rng), rebalanced)
        };
        match self {
            Self::Follow(..) | Self::Make(_) | Self::Move(..) if keeps_none => None,
            Self::Follow(slot, pin) if matches!(presented, Presented::Key(_)) => {
                (pin.renewal != Renewal::NotDue).then(|| made(*slot, false))
            }
            Self::Follow(_, pin) => {
                let notes = pin.token.notes;
                let renewed = || noted(pin.token.renewed_at(now), notes.rebalanced);
                let changed = pin.renewal != Renewal::NotDue || notes.may_move != may_move;
                changed.then(renewed)
            }
            Self::Make(slot) => Some(made(*slot, false)),
            Self::Move(slot, cause) => {
                // Who was moved once to even out load rests, wherever it goes meanwhile.
                let before = matches!(presented, Presented::Pin(pin) if pin.token.notes.rebalanced);
                Some(made(*slot, before || *cause == Cause::Rebalanced))
            }
            // The pin is kept, and handed out only to a client that does not have it yet.
            Self::Borrow(..) => match presented {
                Presented::Pin(pin) if pin.renewal == Renewal::Unsent => Some(pin.token),
                // Lent for long, it must not expire under a client that comes.
                Presented::Pin(pin) if pin.renewal == Renewal::Due => {
                    Some(pin.token.renewed_at(now))
                }
                Presented::Key(_)
                | Presented::Nothing
                | Presented::Pin(_)
                | Presented::Unusable(_) => None,
            },
            Self::FollowOrMove(..) | Self::Refuse(_) | Self::Spread(_) | Self::Wait(_) => None,
        }
    }
}

impl Refusal {
    fn cause(self) -> Option<Cause> {
        match self {
            Self::BacklogTimeout | Self::BacklogTooDeep | Self::ConnectionLimit | Self::Shed => {
                Some(Cause::Overloaded)
            }
            Self::Maintenance => Some(Cause::Maintenance),
            Self::NoBackend => None,
            Self::PinLost(cause) => Some(cause),
            Self::NoneOpen(lost) | Self::NoneRested(lost) | Self::Unknown(lost) => lost,
        }
    }
}

/// Whether a request may still wait for the backend of its pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// It waited for long enough.
    Over,
    /// It may wait.
    Waits,
}

/// What is known of a request when its backend is decided.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// What the client showed.
    pub presented: &'r Presented,
    /// The backends that this very request tried in vain.
    pub tried: &'r Tried,
    /// Whether it may still wait.
    pub patience: Patience,
    /// Whether it waited for a place at its backend.
    pub queued: Queued,
    /// The time, in Unix seconds.
    pub now: u64,
    /// First visits of the same place are drawn alike; `None`: each by chance.
    pub place: Option<u64>,
    /// Whether its method is safe (RFC 9110 §9.2.1): nothing is lost when it goes elsewhere.
    pub is_safe: bool,
    /// Whether it shows a session that the app opened before, where pins begin with one
    /// ([`StartOn::is_open`](super::affinity::start::StartOn::is_open)).
    pub in_session: bool,
}

impl Request<'_> {
    fn draw(&self, view: &AppView, rng: &mut impl Rng) -> Option<Slot> {
        match self.place {
            Some(place) => view.draw_alike(place, self.tried),
            None => view.draw(self.tried, rng),
        }
    }
}

/// Assigns one request to a backend.
///
/// A pin is followed if and only if it is ours, in date, of the running incarnation (or the app says that
/// any will do), and its backend admits pinned clients and was not tried in vain by this very request. What
/// happens else is the app's [`OnUnavailable`]; a backend that is drawn is drawn at random, by weight, from
/// the open ones that were not tried. An app in maintenance takes nobody.
///
/// Edges agree without shared state, also while their lists differ. A pin to a backend that is on a newer list of
/// another edge is lent for the borrow limit, whatever the app prefers when a backend is away: the state is alive,
/// and an error or a wait would be for nothing that this edge can see end. One to a run of a newer list is
/// followed as it is. A client whose home was lent and is lost goes to its stand-in, the same on all edges.
pub fn assign(view: &AppView, request: &Request<'_>, rng: &mut impl Rng) -> Assignment {
    if view.maintenance {
        return Assignment::Refuse(Refusal::Maintenance);
    }
    let Some(affinity) = &view.app.affinity else {
        return match request.draw(view, rng) {
            Some(slot) => Assignment::Spread(slot),
            None => unavailable(view, request, None),
        };
    };
    let lost = match request.presented {
        Presented::Nothing => None,
        Presented::Unusable(cause) => Some(*cause),
        Presented::Key(key) => return by_key(view, affinity, key, request),
        Presented::Pin(pin) => match home(view, affinity, pin, request) {
            Home::Crowded(slot, pin) => match crowd::at_home(view, slot, request) {
                Crowd::Leaves => return leave(view, slot, request, rng),
                Crowd::Refused(refusal) => return Assignment::Refuse(refusal),
                Crowd::Waits => return Assignment::Wait(Waiting::Place(slot, pin)),
            },
            Home::Here(slot, pin) if affinity.may_move(&pin, request.now) => {
                return Assignment::FollowOrMove(slot, pin);
            }
            Home::Here(slot, pin) => return Assignment::Follow(slot, pin),
            Home::Unheard => return lend(view, pin, Cause::Removed, request),
            Home::Turn(slot, pin) => return Assignment::Wait(Waiting::Turn(slot, pin)),
            Home::Unknown => return Assignment::Wait(Waiting::Opening(Closed::Unknown, None)),
            Home::Away(slot, cause) => match stand_by(view, affinity, slot, pin, cause, request) {
                Some(assignment) => return assignment,
                None => Some(cause),
            },
            Home::Forbidden(cause) => return Assignment::Refuse(Refusal::PinLost(cause)),
            Home::Lost(cause) => Some(cause),
        },
    };
    match (successor(view, request, rng), lost) {
        (Some(slot), None) if request.in_session || affinity.pins_first_visits() => {
            Assignment::Make(slot)
        }
        (Some(slot), None) => Assignment::Spread(slot),
        (Some(slot), Some(cause)) => Assignment::Move(slot, cause),
        (None, lost) => unavailable(view, request, lost),
    }
}

/// Moves a client whose home has no place for it to a backend that has one.
fn leave(view: &AppView, home: Slot, request: &Request<'_>, rng: &mut impl Rng) -> Assignment {
    let mut tried = *request.tried;
    tried.push(home);
    match (Request { tried: &tried, ..*request }).draw(view, rng) {
        Some(slot) => Assignment::Move(slot, Cause::Overloaded),
        None => Assignment::Refuse(crowd::refusal(request)),
    }
}

/// The backend for a client that has none, or has lost it.
fn successor(view: &AppView, request: &Request<'_>, rng: &mut impl Rng) -> Option<Slot> {
    match request.presented {
        Presented::Pin(pin) if had_stand_in(view, pin) => view.stand_in(pin.mark(), request.tried),
        Presented::Key(_) | Presented::Nothing | Presented::Pin(_) | Presented::Unusable(_) => {
            request.draw(view, rng)
        }
    }
}

/// Whether another backend stood in for the home of a pin that is lost now, here or on another edge: it takes the
/// client for good, with what it came to know of it.
pub(super) fn had_stand_in(view: &AppView, pin: &Pin) -> bool {
    view.app.find(pin.token.backend).is_none_or(|home| view.is_given_up(home))
}

/// Assigns a client that is known by something else than our cookie: to the same backend as always, and while
/// that takes nobody, to the same stand-in. There is no pin to move.
///
/// Nobody can tell who of them was there before: while their home drains all go there, and none gets a cookie of ours
/// for it. Whose cookie or session was not honoured is new to it, and goes elsewhere.
fn by_key(view: &AppView, affinity: &Affinity, key: &Key, request: &Request<'_>) -> Assignment {
    let Some(slot) = view.home_of(key) else {
        return unavailable(view, request, key.lost);
    };
    let pin = affinity.keyed(view.app.backend(slot), key, request.now);
    let drains = view.admission(slot) == Admission::PinnedOnly;
    let (borrows, cause) = match (home(view, affinity, &pin, request), key.lost) {
        (Home::Crowded(slot, pin), _) => match crowd::at_home(view, slot, request) {
            Crowd::Leaves => (view.stand_in(pin.mark(), request.tried), Cause::Overloaded),
            Crowd::Refused(refusal) => return Assignment::Refuse(refusal),
            Crowd::Waits => return Assignment::Wait(Waiting::Place(slot, pin)),
        },
        (Home::Here(..), Some(cause)) if drains => {
            return match view.stand_in(pin.mark(), request.tried) {
                Some(slot) => Assignment::Move(slot, cause),
                None => unavailable(view, request, Some(cause)),
            };
        }
        (Home::Here(slot, _), Some(cause)) => return Assignment::Move(slot, cause),
        (Home::Here(slot, pin), None) if drains => {
            return Assignment::Follow(slot, Pin { renewal: Renewal::NotDue, ..pin });
        }
        (Home::Here(slot, pin), None) => return Assignment::Follow(slot, pin),
        (Home::Turn(slot, pin), _) => return Assignment::Wait(Waiting::Turn(slot, pin)),
        (Home::Unheard, _) => return lend(view, &pin, Cause::Removed, request),
        (Home::Unknown, _) => return Assignment::Wait(Waiting::Opening(Closed::Unknown, None)),
        (Home::Away(slot, cause), _) => {
            match stand_by(view, affinity, slot, &pin, cause, request) {
                Some(assignment) => return assignment,
                None => (view.stand_in(pin.mark(), request.tried), cause),
            }
        }
        (Home::Forbidden(cause), _) => return Assignment::Refuse(Refusal::PinLost(cause)),
        (Home::Lost(cause), _) => (view.stand_in(pin.mark(), request.tried), cause),
    };
    match borrows {
        Some(slot) => Assignment::Borrow(slot, cause),
        None => unavailable(view, request, Some(cause)),
    }
}

/// What the home of a pin has to say.
enum Home {
    /// It takes nobody now, but the state may still be there.
    Away(Slot, Cause),
    /// It has as much in flight as it may.
    Crowded(Slot, Pin),
    /// The app would rather fail than let the client go on without its state.
    Forbidden(Cause),
    Here(Slot, Pin),
    /// The state is gone, or the client is to leave.
    Lost(Cause),
    Turn(Slot, Pin),
    /// It is not on the list, but may be on a newer one of another edge.
    Unheard,
    Unknown,
}

fn home(view: &AppView, affinity: &Affinity, pin: &Pin, request: &Request<'_>) -> Home {
    let (departed, limit) = (&view.app.departed, affinity.policy.borrow_limit);
    let Some(slot) = view.app.find(pin.token.backend) else {
        return match departed.may_come(&pin.token, limit, request.now) {
            true => Home::Unheard,
            false => Home::Lost(Cause::Removed),
        };
    };
    let incarnation = view.app.backend(slot).incarnation_hash;
    // Of a run that only another edge has heard of: it is in the same place.
    let is_unheard = || departed.may_come_anew(&pin.token, limit, request.now);
    let is_over = incarnation != pin.token.incarnation && !is_unheard();
    let mut pin = *pin;
    if is_over {
        match affinity.policy.on_incarnation_change {
            OnIncarnationChange::Follow => {
                pin.token.incarnation = incarnation;
                pin.renewal = Renewal::Due;
            }
            OnIncarnationChange::Move => return Home::Lost(Cause::NewIncarnation),
            OnIncarnationChange::Refuse => return Home::Forbidden(Cause::NewIncarnation),
        }
    }
    if request.tried.contains(slot) {
        return Home::Away(slot, Cause::ConnectFailed);
    }
    match view.admission(slot) {
        // Who is in its queue, or was, had its turn.
        Admission::Open | Admission::PinnedOnly
            if request.queued == Queued::Not && view.is_paced(slot, pin.mark()) =>
        {
            Home::Turn(slot, pin)
        }
        Admission::Open | Admission::PinnedOnly if !crowd::lets_in(view, slot, request) => {
            Home::Crowded(slot, pin)
        }
        Admission::Open | Admission::PinnedOnly => Home::Here(slot, pin),
        Admission::Closed(_) if view.is_drained(slot) => Home::Lost(Cause::DrainDeadline),
        Admission::Closed(Closed::Drained) => Home::Lost(Cause::DrainDeadline),
        Admission::Closed(Closed::Maintenance) => Home::Away(slot, Cause::Maintenance),
        Admission::Closed(Closed::Quarantined) => Home::Away(slot, Cause::ConnectFailed),
        Admission::Closed(Closed::Ejected | Closed::Unhealthy) => {
            Home::Away(slot, Cause::Unhealthy)
        }
        Admission::Closed(Closed::Unknown) => Home::Unknown,
    }
}

/// What happens instead of a move while the home of a pin is away; `None`: the pin is moved.
fn stand_by(
    view: &AppView,
    affinity: &Affinity,
    home: Slot,
    pin: &Pin,
    cause: Cause,
    request: &Request<'_>,
) -> Option<Assignment> {
    match affinity.policy.on_unavailable {
        OnUnavailable::Move => None,
        OnUnavailable::Refuse => Some(Assignment::Refuse(Refusal::PinLost(cause))),
        OnUnavailable::Borrow if view.is_given_up(home) => None,
        OnUnavailable::Borrow => Some(lend(view, pin, cause, request)),
        OnUnavailable::Wait
            if request.patience == Patience::Over || cause == Cause::Maintenance =>
        {
            None
        }
        OnUnavailable::Wait => Some(Assignment::Wait(Waiting::Home(cause))),
    }
}

/// Another backend stands in, the same for the same client on every edge, and the pin stays.
fn lend(view: &AppView, pin: &Pin, cause: Cause, request: &Request<'_>) -> Assignment {
    match view.stand_in(pin.mark(), request.tried) {
        Some(slot) => Assignment::Borrow(slot, cause),
        None => unavailable(view, request, Some(cause)),
    }
}

fn unavailable(view: &AppView, request: &Request<'_>, lost: Option<Cause>) -> Assignment {
    if view.app.backends.is_empty() {
        return Assignment::Refuse(Refusal::NoBackend);
    }
    if view.is_crowded(request.tried) {
        return Assignment::Refuse(crowd::refusal(request));
    }
    // What was tried in vain rests from now on, though this view does not know it yet.
    let resting = (!request.tried.is_empty()).then_some(Closed::Quarantined);
    match view.may_open_soon().or(resting) {
        Some(closed) => Assignment::Wait(Waiting::Opening(closed, lost)),
        None => Assignment::Refuse(Refusal::NoneOpen(lost)),
    }
}

#[cfg(test)]
mod lists_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
