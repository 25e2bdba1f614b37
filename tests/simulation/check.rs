//! The invariants, for one request: judged by the model alone.

use homing::balancer::affinity::token::BackendHash;
use homing::balancer::affinity::{OnUnavailable, Presented};
use homing::balancer::app::members::{AdminState, Admission, Asked};
use homing::balancer::app::panic::Then;
use homing::balancer::app::slow_start::PinnedStart;
use homing::balancer::app::view::AppView;
use homing::balancer::assign::{Assignment, Cause, Patience, Refusal, Waiting};
use homing::balancer::state::Snapshot;

use crate::{Home, IDLE, World};

impl World {
    /// The invariants, for one request.
    pub(crate) fn check(
        &self,
        snapshot: &Snapshot,
        view: &AppView,
        presented: &Presented,
        assignment: &Assignment,
        index: usize,
    ) {
        assert_eq!(snapshot.generation, self.generation);
        if self.maintenance {
            assert_eq!(*assignment, Assignment::Refuse(Refusal::Maintenance));
            return;
        }
        if self.backends.is_empty() {
            assert_eq!(*assignment, Assignment::Refuse(Refusal::NoBackend));
            return;
        }
        self.check_weights(view);
        if let Some(slot) = assignment.slot() {
            let admission = view.admission(slot);
            assert!(
                !matches!(admission, Admission::Closed(_)),
                "assigned to a closed backend: {assignment:?}"
            );
            let is_new = !matches!(assignment, Assignment::Follow(..));
            assert!(!is_new || admission == Admission::Open, "a new pin to {admission:?}");
            let wish = self.wishes.get(&view.app.backend(slot).id);
            let drains = wish.is_some_and(|wish| wish.state == AdminState::Drain);
            assert!(!is_new || !drains, "a new pin to a draining backend");
            let asks = |slot| view.asked(slot) == Asked::Drain;
            // In a panic that believes no verdict, ejections do not count.
            let ejected = |slot| view.is_ejected(slot) && view.panic != Some(Then::Spread);
            let welcomes = |(slot, to)| to == Admission::Open && !asks(slot) && !ejected(slot);
            let other = view.admissions().any(welcomes);
            assert!(!is_new || !asks(slot) || !other, "a new pin to one that asks for none");
            assert!(!is_new || !ejected(slot) || !other, "a new pin to one that is ejected");
        }
        match &self.clients[index].home {
            Some(home) => self.check_pin(view, home, assignment),
            None => assert!(matches!(presented, Presented::Nothing), "{presented:?}"),
        }
    }

    /// A backend is drawn by its weight, or by a part of it while it starts.
    fn check_weights(&self, view: &AppView) {
        let slow_start = self.policies.1.slow_start.is_some();
        for (slot, admission) in view.admissions() {
            let (weight, whole) =
                (view.weight(slot), u32::from(view.app.backend(slot).weight) * 1000);
            assert!((whole / 10..=whole).contains(&weight), "{weight} of {whole}");
            let starts = slow_start && admission == Admission::Open;
            assert!(weight == whole || starts, "{weight} of {whole}, {admission:?}");
        }
    }

    /// Why a pin must not be followed, whatever the health of its backend; judged by the model alone.
    fn reason_to_leave(&self, home: &Home) -> Option<Cause> {
        if !self.keys.contains(&home.key) {
            return Some(Cause::UnknownKey);
        }
        if self.unix.saturating_sub(home.renewed) > IDLE {
            return Some(Cause::ExpiredIdle);
        }
        let Some(listed) = self.backends.iter().find(|backend| backend.id == home.id) else {
            return Some(Cause::Removed);
        };
        let limit = self.policies.0.borrow_limit.as_secs();
        let may_come = || self.left.may_come_anew(&home.run(), home.issued, self.unix, limit);
        if listed.incarnation != home.incarnation && !may_come() {
            return Some(Cause::NewIncarnation);
        }
        let drained = self.wishes.get(&home.id).is_some_and(|wish| wish.drained);
        drained.then_some(Cause::DrainDeadline)
    }

    /// What may become of a pin.
    fn check_pin(&self, view: &AppView, home: &Home, assignment: &Assignment) {
        if let Some(expected) = self.reason_to_leave(home) {
            assert_eq!(assignment.cause(), Some(expected), "{assignment:?}");
            let limit = self.policies.0.borrow_limit.as_secs();
            let may_come = || self.left.may_come(&home.run(), home.issued, self.unix, limit);
            if expected == Cause::Removed && may_come() {
                // It left, but not for sure before the pin was made: another edge may have it back.
                let lent = !matches!(assignment, Assignment::Move(..));
                assert!(lent, "a pin of a newer list was moved: {assignment:?}");
                return;
            }
            let kept = matches!(
                assignment,
                Assignment::Borrow(..) | Assignment::Refuse(Refusal::PinLost(_))
            );
            assert!(!kept, "a client was kept that has to leave: {assignment:?}");
            return;
        }
        let (affinity, policy) = &self.policies;
        let on = affinity.on_unavailable;
        let away = || view.app.find(BackendHash::of(&home.id)).unwrap();
        let paced = policy.slow_start.is_some_and(|start| start.pinned == PinnedStart::Paced);
        let closed = [Cause::ConnectFailed, Cause::Maintenance, Cause::Unhealthy];
        match assignment {
            Assignment::Follow(slot, _) => assert_eq!(view.app.backend(*slot).id, home.id),
            Assignment::Wait(Waiting::Turn(slot, pin)) => {
                assert!(
                    paced && view.weight(*slot) < 1000 * u32::from(view.app.backend(*slot).weight)
                );
                assert_eq!(view.app.backend(*slot).id, home.id);
                assert_eq!(assignment.give_up(), Assignment::Follow(*slot, *pin));
            }
            Assignment::Borrow(slot, cause) => {
                assert!(on == OnUnavailable::Borrow && closed.contains(cause));
                assert!(!view.is_given_up(away()) && *slot != away());
            }
            Assignment::Move(_, cause) => {
                let may = match on {
                    OnUnavailable::Borrow => view.is_given_up(away()),
                    OnUnavailable::Move => true,
                    OnUnavailable::Refuse => false,
                    OnUnavailable::Wait => {
                        self.patience == Patience::Over || *cause == Cause::Maintenance
                    }
                };
                assert!(closed.contains(cause) && may, "a pin to a backend that stays: {cause:?}");
            }
            Assignment::Wait(Waiting::Home(cause)) => {
                assert!(on == OnUnavailable::Wait && self.patience == Patience::Waits);
                assert!(closed.contains(cause));
            }
            Assignment::Refuse(Refusal::PinLost(cause)) => {
                assert!(on == OnUnavailable::Refuse && closed.contains(cause))
            }
            Assignment::Refuse(_) | Assignment::Wait(Waiting::Opening(..)) => {}
            Assignment::FollowOrMove(..)
            | Assignment::Make(_)
            | Assignment::Spread(_)
            | Assignment::Wait(Waiting::Place(..)) => {
                panic!("{assignment:?} with a pin in date")
            }
        }
    }
}
