//! The heart: one request, one decision.
//!
//! [`assign`] returns one value from which the cookie, the metric, the log field and the status page
//! derive. No other place invents a reason.

use rand::Rng;

use super::affinity::token::TokenError;
use super::affinity::{Affinity, OnUnavailable, Pin, Presented};
use super::app::backend::Slot;
use super::app::members::{Admission, Closed};
use super::app::view::{AppView, Tried};

/// What became of the pin of a request: the label of metrics and logs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// The client went where its pin leads.
    Followed,
    /// A first visit: a pin was made.
    Made,
    /// The pin leads elsewhere now; there is a [`Cause`].
    Moved,
    /// The app keeps no client on its backend.
    Off,
    /// No backend takes the request.
    Refused,
}

impl Outcome {
    /// Every outcome, in order.
    pub const ALL: [Self; 5] = [Self::Followed, Self::Made, Self::Moved, Self::Off, Self::Refused];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Made => "made",
            Self::Moved => "moved",
            Self::Off => "off",
            Self::Refused => "refused",
        }
    }
}

/// Why a pin was moved or a request refused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// The backend refused the connection, or did not answer in time, now or seconds ago.
    ConnectFailed,
    /// The backend was drained, and the time its clients had to leave by themselves is over.
    DrainDeadline,
    /// Nobody used the pin for longer than its idle life.
    ExpiredIdle,
    /// The pin is older than its lifetime.
    ExpiredLifetime,
    /// The key is ours, the seal is not.
    Forged,
    /// The operator closed the backend, or the whole app.
    Maintenance,
    /// What the client showed is no token.
    Malformed,
    /// The backend is another run of itself, with an empty memory.
    NewIncarnation,
    /// The backend is not on the list any more.
    Removed,
    /// The probes of the backend fail.
    Unhealthy,
    /// The key is not on the ring.
    UnknownKey,
    /// The token is of another app on the same domain.
    WrongApp,
}

impl Cause {
    /// Every cause, in order.
    pub const ALL: [Self; 12] = [
        Self::ConnectFailed,
        Self::DrainDeadline,
        Self::ExpiredIdle,
        Self::ExpiredLifetime,
        Self::Forged,
        Self::Maintenance,
        Self::Malformed,
        Self::NewIncarnation,
        Self::Removed,
        Self::Unhealthy,
        Self::UnknownKey,
        Self::WrongApp,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::DrainDeadline => "drain_deadline",
            Self::ExpiredIdle => "expired_idle",
            Self::ExpiredLifetime => "expired_lifetime",
            Self::Forged => "forged",
            Self::Maintenance => "maintenance",
            Self::Malformed => "malformed",
            Self::NewIncarnation => "new_incarnation",
            Self::Removed => "removed",
            Self::Unhealthy => "unhealthy",
            Self::UnknownKey => "unknown_key",
            Self::WrongApp => "wrong_app",
        }
    }
}

impl From<TokenError> for Cause {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::ExpiredIdle => Self::ExpiredIdle,
            TokenError::ExpiredLifetime => Self::ExpiredLifetime,
            TokenError::Forged => Self::Forged,
            TokenError::Malformed => Self::Malformed,
            TokenError::UnknownKey => Self::UnknownKey,
            TokenError::WrongApp => Self::WrongApp,
        }
    }
}

/// Where a request goes, and what happens to its pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Assignment {
    /// To the backend of its pin.
    Follow(Slot, Pin),
    /// To this backend, which becomes its first.
    Make(Slot),
    /// To this backend, which replaces its last one.
    Move(Slot, Cause),
    /// Nowhere; why.
    Refuse(Refusal),
    /// To any backend, and the next request to any other.
    Spread(Slot),
    /// Nowhere yet: a backend waits for its first verdict, or rests, or starts slowly. Ask again when
    /// something changed; when there is no time left, [`Assignment::give_up`].
    Wait(Waiting),
}

/// Why no backend takes a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
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
    /// Not one probe ended in time.
    Unknown(Option<Cause>),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// For a backend that is closed to open; holds the cause a pin was lost for, if any.
    Opening(Closed, Option<Cause>),
    /// For its turn at the backend of its pin, which starts slowly.
    Turn(Slot, Pin),
}

impl Assignment {
    /// The backend, if there is one.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Follow(slot, _) | Self::Make(slot) | Self::Move(slot, _) | Self::Spread(slot) => {
                Some(*slot)
            }
            Self::Refuse(_) | Self::Wait(_) => None,
        }
    }

    /// What became of the pin.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Follow(..) | Self::Wait(Waiting::Turn(..)) => Outcome::Followed,
            Self::Make(_) => Outcome::Made,
            Self::Move(..) => Outcome::Moved,
            Self::Spread(_) => Outcome::Off,
            Self::Refuse(_) | Self::Wait(Waiting::Opening(..)) => Outcome::Refused,
        }
    }

    /// Why the pin was moved or the request refused.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Follow(..) | Self::Make(_) | Self::Spread(_) | Self::Wait(Waiting::Turn(..)) => {
                None
            }
            Self::Move(_, cause) => Some(*cause),
            Self::Refuse(refusal) => refusal.cause(),
            Self::Wait(Waiting::Opening(_, lost)) => *lost,
        }
    }

    /// What a wait becomes when there is no time left: a refusal, or a pin followed before its turn.
    /// Anything else stays.
    #[must_use]
    pub fn give_up(self) -> Self {
        match self {
            Self::Wait(Waiting::Turn(slot, pin)) => Self::Follow(slot, pin),
            Self::Wait(Waiting::Opening(closed, lost)) => Self::Refuse(match closed {
                Closed::Unknown => Refusal::Unknown(lost),
                Closed::Quarantined => Refusal::NoneRested(lost),
                Closed::Drained | Closed::Maintenance | Closed::Unhealthy => {
                    Refusal::NoneOpen(lost)
                }
            }),
            decided @ (Self::Follow(..)
            | Self::Make(_)
            | Self::Move(..)
            | Self::Refuse(_)
            | Self::Spread(_)) => decided,
        }
    }
}

impl Refusal {
    fn cause(self) -> Option<Cause> {
        match self {
            Self::Maintenance => Some(Cause::Maintenance),
            Self::NoBackend => None,
            Self::PinLost(cause) => Some(cause),
            Self::NoneOpen(lost) | Self::NoneRested(lost) | Self::Unknown(lost) => lost,
        }
    }
}

/// Assigns one request to a backend.
///
/// A pin is followed if and only if it is ours, in date, of the running incarnation, and its backend
/// admits pinned clients and was not tried in vain by this very request. In every other case a
/// backend is drawn at random, by weight, from the open ones that were not tried. An app in
/// maintenance takes nobody.
pub fn assign(
    view: &AppView,
    presented: &Presented,
    tried: &Tried,
    rng: &mut impl Rng,
) -> Assignment {
    if view.maintenance {
        return Assignment::Refuse(Refusal::Maintenance);
    }
    let Some(affinity) = &view.app.affinity else {
        return match view.draw(tried, rng) {
            Some(slot) => Assignment::Spread(slot),
            None => unavailable(view, tried, None),
        };
    };
    let lost = match presented {
        Presented::Nothing => None,
        Presented::Unusable(error) => Some(Cause::from(*error)),
        Presented::Pin(pin) => match home(view, pin, tried) {
            Home::Here(slot) => return Assignment::Follow(slot, *pin),
            Home::Turn(slot) => return Assignment::Wait(Waiting::Turn(slot, *pin)),
            Home::Unknown => return Assignment::Wait(Waiting::Opening(Closed::Unknown, None)),
            Home::Lost(cause) if refuses(affinity, cause) => {
                return Assignment::Refuse(Refusal::PinLost(cause));
            }
            Home::Lost(cause) => Some(cause),
        },
    };
    match (view.draw(tried, rng), lost) {
        (Some(slot), None) => Assignment::Make(slot),
        (Some(slot), Some(cause)) => Assignment::Move(slot, cause),
        (None, lost) => unavailable(view, tried, lost),
    }
}

/// What the home of a pin has to say.
enum Home {
    Here(Slot),
    Lost(Cause),
    Turn(Slot),
    Unknown,
}

fn home(view: &AppView, pin: &Pin, tried: &Tried) -> Home {
    let Some(slot) = view.app.find(pin.token.backend) else {
        return Home::Lost(Cause::Removed);
    };
    if view.app.backend(slot).incarnation_hash != pin.token.incarnation {
        return Home::Lost(Cause::NewIncarnation);
    }
    if tried.contains(slot) {
        return Home::Lost(Cause::ConnectFailed);
    }
    match view.admission(slot) {
        Admission::Open | Admission::PinnedOnly if view.is_paced(slot, pin.mark) => {
            Home::Turn(slot)
        }
        Admission::Open | Admission::PinnedOnly => Home::Here(slot),
        Admission::Closed(_) if view.is_drained(slot) => Home::Lost(Cause::DrainDeadline),
        Admission::Closed(Closed::Drained) => Home::Lost(Cause::DrainDeadline),
        Admission::Closed(Closed::Maintenance) => Home::Lost(Cause::Maintenance),
        Admission::Closed(Closed::Quarantined) => Home::Lost(Cause::ConnectFailed),
        Admission::Closed(Closed::Unhealthy) => Home::Lost(Cause::Unhealthy),
        Admission::Closed(Closed::Unknown) => Home::Unknown,
    }
}

/// Whether the app prefers an error over a move, where the state may still be there and the operator
/// did not give the client a deadline to leave.
fn refuses(affinity: &Affinity, cause: Cause) -> bool {
    let moves = matches!(cause, Cause::DrainDeadline | Cause::NewIncarnation | Cause::Removed);
    affinity.policy.on_unavailable == OnUnavailable::Refuse && !moves
}

fn unavailable(view: &AppView, tried: &Tried, lost: Option<Cause>) -> Assignment {
    if view.app.backends.is_empty() {
        return Assignment::Refuse(Refusal::NoBackend);
    }
    // What was tried in vain rests from now on, though this view does not know it yet.
    let resting = (!tried.is_empty()).then_some(Closed::Quarantined);
    match view.may_open_soon().or(resting) {
        Some(closed) => Assignment::Wait(Waiting::Opening(closed, lost)),
        None => Assignment::Refuse(Refusal::NoneOpen(lost)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::app::members::AdminState;
    use crate::balancer::app::slow_start::{PinnedStart, SlowStart};
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing;

    /// Decides one request.
    ///
    /// `backends`: one word each, an id and what it admits: `a` open, `a?` pinned only (drain),
    /// `a!` unhealthy, `a-` maintenance, `a~` unknown, `a*` quarantined, `a/` drained, `a!/` drained and
    /// unhealthy.
    /// `pin`: `-` none, `a` pinned to `a`, `a'` pinned to an earlier incarnation of `a`, `x` forged.
    /// `tried`: ids that this request tried in vain.
    #[track_caller]
    fn check_with(policy: OnUnavailable, backends: &str, pin: &str, tried: &str, expected: &str) {
        let view = testing::view(policy, backends);
        let presented = match pin {
            "-" => Presented::Nothing,
            "x" => Presented::Unusable(TokenError::Forged),
            pin => Presented::Pin(testing::pin(pin)),
        };
        let mut tries = Tried::default();
        for id in tried.split_whitespace() {
            tries.push(view.app.find(testing::hash(id)).unwrap());
        }
        let mut seen: Vec<String> = (0..64)
            .map(|seed| assign(&view, &presented, &tries, &mut SmallRng::seed_from_u64(seed)))
            .map(|assignment| {
                let to = assignment.slot().map(|slot| view.app.backend(slot).id.to_string());
                let kind = match assignment {
                    Assignment::Follow(..) => "follow",
                    Assignment::Make(_) => "make",
                    Assignment::Move(..) => "move",
                    Assignment::Refuse(_) => "refuse",
                    Assignment::Spread(_) => "spread",
                    Assignment::Wait(_) => "wait",
                };
                let words =
                    [Some(kind.to_owned()), to, assignment.cause().map(|c| c.as_str().to_owned())];
                words.into_iter().flatten().collect::<Vec<_>>().join(" ")
            })
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.join(", "), expected, "{backends} | pin {pin} | tried {tried}");
    }

    #[track_caller]
    fn check(backends: &str, pin: &str, expected: &str) {
        check_with(OnUnavailable::Move, backends, pin, "", expected);
    }

    #[test]
    fn a_new_client_goes_to_any_open_backend() {
        check("a b", "-", "make a, make b");
        check("a b! c- d~ e*", "-", "make a");
    }

    #[test]
    fn a_pin_is_followed() {
        check("a b", "b", "follow b");
    }

    #[test]
    fn a_pin_is_followed_while_its_backend_drains() {
        check("a b?", "b", "follow b");
    }

    #[test]
    fn a_new_client_is_never_sent_to_a_draining_backend() {
        check("a b?", "-", "make a");
        check("a b?", "x", "move a forged");
        check("b?", "-", "refuse");
    }

    #[test]
    fn a_pin_to_a_closed_backend_moves_with_its_cause() {
        check("a b!", "b", "move a unhealthy");
        check("a b-", "b", "move a maintenance");
        check("a b*", "b", "move a connect_failed");
        check("a", "b", "move a removed");
        check("a b", "b'", "move a new_incarnation, move b new_incarnation");
    }

    #[test]
    fn a_drain_deadline_moves_clients_whatever_the_app_prefers() {
        for policy in [OnUnavailable::Move, OnUnavailable::Refuse] {
            check_with(policy, "a b/", "b", "", "move a drain_deadline");
            check_with(policy, "a b!/", "b", "", "move a drain_deadline");
            check_with(policy, "a b~/", "b", "", "move a drain_deadline");
        }
        check("a b/", "-", "make a");
        check("b/", "b", "refuse drain_deadline");
        check("b~/", "b", "refuse drain_deadline");
    }

    #[test]
    fn an_app_in_maintenance_takes_nobody() {
        let mut balancer = testing::balancer(OnUnavailable::Move, "a b?");
        balancer.apply(testing::maintained(true), Duration::ZERO);
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        for presented in [Presented::Nothing, Presented::Pin(testing::pin("a"))] {
            let mut rng = SmallRng::seed_from_u64(1);
            let assignment = assign(&view, &presented, &Tried::default(), &mut rng);
            assert_eq!(assignment, Assignment::Refuse(Refusal::Maintenance));
            assert_eq!(assignment.cause(), Some(Cause::Maintenance));
        }
    }

    #[test]
    fn a_pin_to_a_backend_nobody_probed_yet_waits_for_it() {
        check("a b~", "b", "wait");
    }

    #[test]
    fn a_request_waits_when_a_backend_may_open_soon() {
        check("a~ b!", "-", "wait");
        check("a* b!", "-", "wait");
        check("a*", "a", "wait connect_failed");
    }

    #[test]
    fn a_request_is_refused_when_no_backend_will_open() {
        check("", "-", "refuse");
        check("a! b-", "-", "refuse");
        check("a! b-", "a", "refuse unhealthy");
    }

    #[test]
    fn a_retry_goes_to_a_backend_that_was_not_tried() {
        check_with(OnUnavailable::Move, "a b c", "-", "a c", "make b");
        check_with(OnUnavailable::Move, "a b", "b", "b", "move a connect_failed");
        check_with(OnUnavailable::Move, "a b", "-", "a b", "wait");
        check_with(OnUnavailable::Move, "a", "a", "a", "wait connect_failed");
    }

    #[test]
    fn an_app_may_prefer_an_error_over_a_move() {
        check_with(OnUnavailable::Refuse, "a b!", "b", "", "refuse unhealthy");
        check_with(OnUnavailable::Refuse, "a b", "b", "b", "refuse connect_failed");
    }

    #[test]
    fn state_that_is_gone_for_good_is_not_waited_for() {
        check_with(OnUnavailable::Refuse, "a", "b", "", "move a removed");
        check_with(OnUnavailable::Refuse, "a b!", "b'", "", "move a new_incarnation");
        check_with(OnUnavailable::Refuse, "a", "x", "", "move a forged");
    }

    #[test]
    fn a_wait_that_lasts_too_long_says_what_it_waited_for() {
        let view = testing::view(OnUnavailable::Move, "a~");
        let wait =
            assign(&view, &Presented::Nothing, &Tried::default(), &mut SmallRng::seed_from_u64(1));
        assert_eq!(wait.give_up(), Assignment::Refuse(Refusal::Unknown(None)));
    }

    #[test]
    fn a_pin_waits_for_its_turn_and_is_followed_before_it_when_there_is_no_time() {
        let mut spec = testing::spec(&["a", "b"]);
        let mut policy = testing::policy("shop.example.com");
        let start = SlowStart { duration: 10 * testing::SECOND, pinned: PinnedStart::Paced };
        policy.slow_start = Some(start);
        spec.apps[0].policy = Arc::new(policy);
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        balancer.apply(testing::probed("a", ProbeOutcome::Passed), Duration::ZERO);
        // The share is 10 % at once, 55 % after 5 seconds and 100 % after 10.
        let middle = u64::MAX / 2;
        let last = Presented::Pin(Pin { mark: u64::MAX, ..testing::pin("a") });
        for (second, mark, waits) in
            [(0, 0, false), (0, middle, true), (5, middle, false), (5, u64::MAX, true)]
        {
            balancer.apply(Event::Ticked, second * testing::SECOND);
            let view = &balancer.snapshot().apps[0];
            let pin = Pin { mark, ..testing::pin("a") };
            let slot = view.app.find(pin.token.backend).unwrap();
            let mut rng = SmallRng::seed_from_u64(1);
            let assignment = assign(view, &Presented::Pin(pin), &Tried::default(), &mut rng);
            assert_eq!(matches!(assignment, Assignment::Wait(_)), waits, "{second} s, {mark}");
            assert_eq!(assignment.give_up(), Assignment::Follow(slot, pin));
            assert_eq!(assignment.outcome(), Outcome::Followed);
        }
        balancer.apply(Event::Ticked, 10 * testing::SECOND);
        let view = &balancer.snapshot().apps[0];
        let mut rng = SmallRng::seed_from_u64(1);
        assert!(assign(view, &last, &Tried::default(), &mut rng).slot().is_some());
        assert_eq!(balancer.next_tick(), None);
    }

    #[test]
    fn the_lists_of_labels_are_in_step_with_their_enums() {
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
        assert!(Cause::ALL.iter().enumerate().all(|(index, cause)| *cause as usize == index));
        assert_eq!(AdminState::Drain.as_str(), "drain");
    }
}
