//! The heart: one request, one decision.
//!
//! [`assign`] returns one value from which the cookie, the metric, the log field and the status page
//! derive. No other place invents a reason.

mod outcome;

use rand::Rng;

pub use self::outcome::{Cause, Outcome};

use super::affinity::{Affinity, OnIncarnationChange, OnUnavailable, Pin, Presented, Renewal};
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
    /// For the backend of its pin to come back; why it is away.
    Home(Cause),
    /// For a backend that is closed to open; holds the cause a pin was lost for, if any.
    Opening(Closed, Option<Cause>),
    /// For its turn at the backend of its pin, which starts slowly.
    Turn(Slot, Pin),
}

impl Assignment {
    /// The backend, if there is one.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Borrow(slot, _)
            | Self::Follow(slot, _)
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
            Self::Follow(..) | Self::Wait(Waiting::Turn(..)) => Outcome::Followed,
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
            Self::Follow(..) | Self::Make(_) | Self::Spread(_) | Self::Wait(Waiting::Turn(..)) => {
                None
            }
            Self::Borrow(_, cause) | Self::Move(_, cause) => Some(*cause),
            Self::Wait(Waiting::Home(cause)) => Some(*cause),
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
            Self::Wait(Waiting::Home(cause)) => Self::Refuse(Refusal::NoneOpen(Some(cause))),
            Self::Wait(Waiting::Opening(closed, lost)) => Self::Refuse(match closed {
                Closed::Unknown => Refusal::Unknown(lost),
                Closed::Quarantined => Refusal::NoneRested(lost),
                Closed::Drained | Closed::Maintenance | Closed::Unhealthy => {
                    Refusal::NoneOpen(lost)
                }
            }),
            decided @ (Self::Borrow(..)
            | Self::Follow(..)
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

/// Whether a request may still wait for the backend of its pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// It waited for long enough.
    Over,
    /// It may wait.
    Waits,
}

/// Assigns one request to a backend.
///
/// A pin is followed if and only if it is ours, in date, of the running incarnation (or the app says that
/// any will do), and its backend admits pinned clients and was not tried in vain by this very request. What
/// happens else is the app's [`OnUnavailable`]; a backend that is drawn is drawn at random, by weight, from
/// the open ones that were not tried. An app in maintenance takes nobody.
pub fn assign(
    view: &AppView,
    presented: &Presented,
    tried: &Tried,
    patience: Patience,
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
        Presented::Pin(pin) => match home(view, affinity, pin, tried) {
            Home::Here(slot, pin) => return Assignment::Follow(slot, pin),
            Home::Turn(slot, pin) => return Assignment::Wait(Waiting::Turn(slot, pin)),
            Home::Unknown => return Assignment::Wait(Waiting::Opening(Closed::Unknown, None)),
            Home::Away(slot, cause) => {
                match stand_by(view, affinity, slot, pin, cause, tried, patience) {
                    Some(assignment) => return assignment,
                    None => Some(cause),
                }
            }
            Home::Forbidden(cause) => return Assignment::Refuse(Refusal::PinLost(cause)),
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
    /// It takes nobody now, but the state may still be there.
    Away(Slot, Cause),
    /// The app would rather fail than let the client go on without its state.
    Forbidden(Cause),
    Here(Slot, Pin),
    /// The state is gone, or the client is to leave.
    Lost(Cause),
    Turn(Slot, Pin),
    Unknown,
}

fn home(view: &AppView, affinity: &Affinity, pin: &Pin, tried: &Tried) -> Home {
    let Some(slot) = view.app.find(pin.token.backend) else {
        return Home::Lost(Cause::Removed);
    };
    let mut pin = *pin;
    let incarnation = view.app.backend(slot).incarnation_hash;
    if incarnation != pin.token.incarnation {
        match affinity.policy.on_incarnation_change {
            OnIncarnationChange::Follow => {
                pin.token.incarnation = incarnation;
                pin.renewal = Renewal::Due;
            }
            OnIncarnationChange::Move => return Home::Lost(Cause::NewIncarnation),
            OnIncarnationChange::Refuse => return Home::Forbidden(Cause::NewIncarnation),
        }
    }
    if tried.contains(slot) {
        return Home::Away(slot, Cause::ConnectFailed);
    }
    match view.admission(slot) {
        Admission::Open | Admission::PinnedOnly if view.is_paced(slot, pin.mark) => {
            Home::Turn(slot, pin)
        }
        Admission::Open | Admission::PinnedOnly => Home::Here(slot, pin),
        Admission::Closed(_) if view.is_drained(slot) => Home::Lost(Cause::DrainDeadline),
        Admission::Closed(Closed::Drained) => Home::Lost(Cause::DrainDeadline),
        Admission::Closed(Closed::Maintenance) => Home::Away(slot, Cause::Maintenance),
        Admission::Closed(Closed::Quarantined) => Home::Away(slot, Cause::ConnectFailed),
        Admission::Closed(Closed::Unhealthy) => Home::Away(slot, Cause::Unhealthy),
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
    tried: &Tried,
    patience: Patience,
) -> Option<Assignment> {
    match affinity.policy.on_unavailable {
        OnUnavailable::Move => None,
        OnUnavailable::Refuse => Some(Assignment::Refuse(Refusal::PinLost(cause))),
        OnUnavailable::Borrow if view.is_given_up(home) => None,
        OnUnavailable::Borrow => Some(match view.stand_in(pin.mark, tried) {
            Some(slot) => Assignment::Borrow(slot, cause),
            None => unavailable(view, tried, Some(cause)),
        }),
        OnUnavailable::Wait if patience == Patience::Over || cause == Cause::Maintenance => None,
        OnUnavailable::Wait => Some(Assignment::Wait(Waiting::Home(cause))),
    }
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
    use crate::balancer::affinity::token::TokenError;
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
        check_once(policy, Patience::Waits, backends, pin, tried, expected);
    }

    #[track_caller]
    fn check_once(
        policy: OnUnavailable,
        patience: Patience,
        backends: &str,
        pin: &str,
        tried: &str,
        expected: &str,
    ) {
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
            .map(|seed| {
                assign(&view, &presented, &tries, patience, &mut SmallRng::seed_from_u64(seed))
            })
            .map(|assignment| {
                let to = assignment.slot().map(|slot| view.app.backend(slot).id.to_string());
                let kind = match assignment {
                    Assignment::Borrow(..) => "borrow",
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
            let assignment =
                assign(&view, &presented, &Tried::default(), Patience::Waits, &mut rng);
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
    fn another_backend_may_stand_in_for_the_home_of_a_pin() {
        check_with(OnUnavailable::Borrow, "a b!", "b", "", "borrow a unhealthy");
        check_with(OnUnavailable::Borrow, "a b-", "b", "", "borrow a maintenance");
        check_with(OnUnavailable::Borrow, "a b*", "b", "", "borrow a connect_failed");
        check_with(OnUnavailable::Borrow, "a b", "b", "b", "borrow a connect_failed");
        check_with(OnUnavailable::Borrow, "a? b!", "b", "", "refuse unhealthy");
        check_with(OnUnavailable::Borrow, "a* b!", "b", "", "wait unhealthy");
        check_with(OnUnavailable::Borrow, "a b/", "b", "", "move a drain_deadline");
        check_with(OnUnavailable::Borrow, "a", "b", "", "move a removed");
        check_with(OnUnavailable::Borrow, "a b", "b", "", "follow b");
    }

    #[test]
    fn the_same_backend_stands_in_for_the_same_client_and_others_for_others() {
        let view = testing::view(OnUnavailable::Borrow, "a b c d!");
        let mut counts = [0; 3];
        for mark in 0..3000_u64 {
            let mark = mark.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let slot = view.stand_in(mark, &Tried::default()).unwrap();
            assert_eq!(view.stand_in(mark, &Tried::default()), Some(slot));
            counts[slot.index()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn who_stands_in_changes_for_those_only_whose_stand_in_went() {
        let [before, after] =
            ["a b c d!", "a b! c d!"].map(|words| testing::view(OnUnavailable::Borrow, words));
        for mark in (0..1000_u64).map(|mark| mark.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let last = before.stand_in(mark, &Tried::default()).unwrap();
            let now = after.stand_in(mark, &Tried::default()).unwrap();
            assert!(now == last || last.index() == 1, "{mark}: {last:?} became {now:?}");
        }
    }

    #[test]
    fn a_request_may_wait_for_the_home_of_its_pin() {
        check_with(OnUnavailable::Wait, "a b!", "b", "", "wait unhealthy");
        check_with(OnUnavailable::Wait, "a b*", "b", "", "wait connect_failed");
        check_with(OnUnavailable::Wait, "a b", "b", "b", "wait connect_failed");
        check_with(OnUnavailable::Wait, "a b-", "b", "", "move a maintenance");
        check_with(OnUnavailable::Wait, "a b/", "b", "", "move a drain_deadline");
        check_once(OnUnavailable::Wait, Patience::Over, "a b!", "b", "", "move a unhealthy");
        check_once(OnUnavailable::Wait, Patience::Over, "a! b!", "b", "", "refuse unhealthy");
    }

    #[test]
    fn another_run_of_a_backend_may_be_as_good_or_an_error() {
        let decide = |choice: OnIncarnationChange| {
            let mut spec = testing::spec(&["a", "b"]);
            if let Some(policy) = &mut spec.apps[0].affinity {
                policy.on_incarnation_change = choice;
            }
            let mut balancer = Balancer::default();
            balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
            for id in ["a", "b"] {
                balancer.apply(testing::probed(id, ProbeOutcome::Passed), Duration::ZERO);
            }
            let view = Arc::clone(&balancer.snapshot().apps[0]);
            let presented = Presented::Pin(testing::pin("b'"));
            let mut rng = SmallRng::seed_from_u64(1);
            assign(&view, &presented, &Tried::default(), Patience::Waits, &mut rng)
        };
        match decide(OnIncarnationChange::Follow) {
            Assignment::Follow(slot, pin) => {
                assert_eq!((slot.index(), pin.renewal), (1, Renewal::Due));
                assert_ne!(pin.token.incarnation, testing::pin("b'").token.incarnation);
            }
            other @ (Assignment::Borrow(..)
            | Assignment::Make(_)
            | Assignment::Move(..)
            | Assignment::Refuse(_)
            | Assignment::Spread(_)
            | Assignment::Wait(_)) => panic!("{other:?}"),
        }
        let refused = Assignment::Refuse(Refusal::PinLost(Cause::NewIncarnation));
        assert_eq!(decide(OnIncarnationChange::Refuse), refused);
        assert_eq!(decide(OnIncarnationChange::Move).outcome(), Outcome::Moved);
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
        let wait = assign(
            &view,
            &Presented::Nothing,
            &Tried::default(),
            Patience::Waits,
            &mut SmallRng::seed_from_u64(1),
        );
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
            let assignment =
                assign(view, &Presented::Pin(pin), &Tried::default(), Patience::Waits, &mut rng);
            assert_eq!(matches!(assignment, Assignment::Wait(_)), waits, "{second} s, {mark}");
            assert_eq!(assignment.give_up(), Assignment::Follow(slot, pin));
            assert_eq!(assignment.outcome(), Outcome::Followed);
        }
        balancer.apply(Event::Ticked, 10 * testing::SECOND);
        let view = &balancer.snapshot().apps[0];
        let mut rng = SmallRng::seed_from_u64(1);
        assert!(assign(view, &last, &Tried::default(), Patience::Waits, &mut rng).slot().is_some());
        assert_eq!(balancer.next_tick(), None);
    }

    #[test]
    fn the_lists_of_labels_are_in_step_with_their_enums() {
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
        assert!(Cause::ALL.iter().enumerate().all(|(index, cause)| *cause as usize == index));
        assert_eq!(AdminState::Drain.as_str(), "drain");
    }
}
