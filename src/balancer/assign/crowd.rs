//! Who is let in when there is more to do than an app or a backend may have in hand.
//!
//! New clients go first: they are drawn elsewhere, and turned away when there is no place anywhere, or when what is
//! left is kept for pinned clients. A pinned client waits at its backend, and is never moved before it did.

use super::{Refusal, Request};
use crate::balancer::affinity::Presented;
use crate::balancer::app::backend::Slot;
use crate::balancer::app::limits::OnOverload;
use crate::balancer::app::view::AppView;

/// What a request knows of places at backends that have as much in flight as they may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queued {
    /// It did not wait for one yet, but for its turn at a backend that starts slowly, for as long as it may.
    Due,
    /// It waited, and has a place at this one.
    Holds(Slot),
    /// It waited for as long as it may.
    InVain,
    /// It did not wait for one.
    Not,
    /// It is in the queue of its backend.
    Waits,
}

/// Whether Homing itself runs out of something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pressure {
    /// Of memory or descriptors: nobody new is let in.
    High,
    /// There is enough.
    None,
}

/// What a client does whose home has no place for it.
pub(super) enum Crowd {
    /// It goes elsewhere.
    Leaves,
    Refused(Refusal),
    Waits,
}

/// Whether the app takes another request; `Some`: why not. Asked once, before the request is assigned. Clients without
/// a pin are let in to less than pinned ones; where the app keeps none, who `came_before` on the same connection is not
/// new. `more` are requests that are not counted as in flight yet.
pub fn admit(
    view: &AppView,
    presented: &Presented,
    came_before: bool,
    pressure: Pressure,
    more: u64,
) -> Option<Refusal> {
    let keeps = view.app.affinity.is_some();
    let pinned = matches!(presented, Presented::Key(_) | Presented::Pin(_));
    let is_known = if keeps { pinned } else { came_before };
    if pressure == Pressure::High && !is_known {
        return Some(Refusal::Shed);
    }
    let limits = &view.app.policy.limits;
    let in_flight = limits.in_flight_of(view.app.backends.len());
    if in_flight.is_none() && limits.connections.is_none() {
        return None;
    }
    let counters = view.app.live.counters();
    let all = counters.in_flight.read() + more;
    let requests = all.saturating_sub(counters.streams.read());
    let exceeds = |count: u64, limit: Option<u64>| {
        let mine = |limit| if keeps && !pinned { limits.unreserved(limit) } else { limit };
        limit.map(mine).is_some_and(|limit| count > limit)
    };
    if exceeds(requests, in_flight) {
        return Some(Refusal::BacklogTooDeep);
    }
    exceeds(all, limits.connections).then_some(Refusal::ConnectionLimit)
}

/// Whether this backend has a place for the request.
pub(super) fn lets_in(view: &AppView, slot: Slot, request: &Request<'_>) -> bool {
    request.queued == Queued::Holds(slot) || view.has_place(slot)
}

/// What a client does whose home, at this slot, has no place for it.
pub(super) fn at_home(view: &AppView, slot: Slot, request: &Request<'_>) -> Crowd {
    let limits = &view.app.policy.limits;
    let may_wait = match request.queued {
        Queued::InVain => false,
        Queued::Waits => true,
        Queued::Due | Queued::Holds(_) | Queued::Not => {
            view.app.backend(slot).live.queue.len() < limits.queue
        }
    };
    match limits.on_overload {
        _ if may_wait => Crowd::Waits,
        OnOverload::Move => Crowd::Leaves,
        OnOverload::Refuse => Crowd::Refused(refusal(request)),
    }
}

/// Why a request for which there is no place is refused.
pub(super) fn refusal(request: &Request<'_>) -> Refusal {
    match request.queued {
        Queued::InVain => Refusal::BacklogTimeout,
        Queued::Due | Queued::Holds(_) | Queued::Not | Queued::Waits => Refusal::BacklogTooDeep,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::tests::seen;
    use super::super::{Cause, assign};
    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::app::limits::AppLimits;
    use crate::balancer::app::live::{AppInFlight, Held};
    use crate::balancer::app::policy::Policy;
    use crate::balancer::app::queue::{Place, Ticket};
    use crate::balancer::app::view::Tried;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing;

    /// Backends `a` and `b` with one place each.
    fn view(limits: AppLimits) -> Arc<AppView> {
        let mut spec = testing::spec(&["a", "b"]);
        spec.apps[0].affinity = Some(testing::affinity(OnUnavailable::Move));
        spec.apps[0].policy = Arc::new(Policy { limits, ..testing::policy("shop.example.com") });
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        for id in ["a", "b"] {
            let passed = crate::balancer::app::health::ProbeOutcome::Passed;
            balancer.apply(testing::probed(id, passed), Duration::ZERO);
        }
        Arc::clone(&balancer.snapshot().apps[0])
    }

    fn one_place(on_overload: OnOverload) -> AppLimits {
        AppLimits { backend_in_flight: Some(1), queue: 1, on_overload, ..AppLimits::default() }
    }

    /// Takes the places at these backends.
    fn take(view: &AppView, ids: &str) -> Vec<Place> {
        let slot = |id| view.app.find(testing::hash(id)).unwrap();
        ids.split_whitespace().map(|id| Place::take(&view.app.backend(slot(id)).live)).collect()
    }

    #[track_caller]
    fn check(view: &AppView, pin: &str, queued: Queued, expected: &str) {
        let presented = match pin {
            "-" => Presented::Nothing,
            "x" => Presented::Unusable(Cause::Forged),
            pin => Presented::Pin(testing::pin(pin)),
        };
        let request = Request { queued, ..testing::request(&presented, &Tried::NONE) };
        let seen = seen(view, |seed| {
            assign(
                view,
                &request,
                &mut <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(seed),
            )
        });
        assert_eq!(seen, expected, "pin {pin}, {queued:?}");
    }

    #[test]
    fn a_pinned_client_waits_and_a_new_one_goes_elsewhere() {
        let view = view(one_place(OnOverload::Refuse));
        let _held = take(&view, "a");
        check(&view, "a", Queued::Not, "wait");
        check(&view, "b", Queued::Not, "follow b");
        check(&view, "-", Queued::Not, "make b");
        check(&view, "x", Queued::Not, "move b forged");
        let _all = take(&view, "b");
        check(&view, "-", Queued::Not, "refuse overloaded");
        check(&view, "x", Queued::Not, "refuse overloaded");
    }

    #[test]
    fn who_has_a_place_is_let_in_and_who_waited_in_vain_is_not() {
        let view = view(one_place(OnOverload::Refuse));
        let _held = take(&view, "a");
        let home = view.app.find(testing::hash("a")).unwrap();
        check(&view, "a", Queued::Holds(home), "follow a");
        check(&view, "a", Queued::InVain, "refuse overloaded");
        let _waits = Ticket::draw(&view.app.backend(home).live, 1);
        check(&view, "a", Queued::Waits, "wait");
        check(&view, "a", Queued::Not, "refuse overloaded");
    }

    #[test]
    fn a_client_is_moved_only_where_the_app_says_so_and_to_a_backend_with_room() {
        let view = view(one_place(OnOverload::Move));
        let _held = take(&view, "a");
        check(&view, "a", Queued::Not, "wait");
        check(&view, "a", Queued::InVain, "move b overloaded");
        let _all = take(&view, "b");
        check(&view, "a", Queued::InVain, "refuse overloaded");
    }

    #[test]
    fn an_app_turns_new_clients_away_before_pinned_ones() {
        let limits =
            AppLimits { app_in_flight: Some(5), connections: Some(20), ..AppLimits::default() };
        let view = view(limits);
        let pin = Presented::Pin(testing::pin("a"));
        let admitted = |presented: &Presented| admit(&view, presented, false, Pressure::None, 1);
        let held: Vec<_> =
            (0..9).map(|_| Held::new(AppInFlight(Arc::clone(&view.app.live)))).collect();
        assert_eq!(admitted(&Presented::Nothing), Some(Refusal::BacklogTooDeep));
        assert_eq!(admitted(&Presented::Unusable(Cause::Forged)), Some(Refusal::BacklogTooDeep));
        assert_eq!(admitted(&pin), None);
        let _one_more = Held::new(AppInFlight(Arc::clone(&view.app.live)));
        assert_eq!(admitted(&pin), Some(Refusal::BacklogTooDeep));
        drop(held);
        assert_eq!(admitted(&Presented::Nothing), None);
    }

    #[test]
    fn under_pressure_nobody_new_is_let_in_and_without_affinity_a_connection_is_new_once() {
        let keeping = view(AppLimits::default());
        let mut balancer = Balancer::default();
        let mut spec = testing::spec(&["a"]);
        spec.apps[0].affinity = None;
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        let keeps_none = &balancer.snapshot().apps[0];
        let pin = Presented::Pin(testing::pin("a"));
        let high = |view: &AppView, presented: &Presented, came_before| {
            admit(view, presented, came_before, Pressure::High, 1)
        };
        assert_eq!(high(&keeping, &pin, false), None);
        assert_eq!(high(&keeping, &Presented::Nothing, true), Some(Refusal::Shed));
        assert_eq!(high(keeps_none, &Presented::Nothing, false), Some(Refusal::Shed));
        assert_eq!(high(keeps_none, &Presented::Nothing, true), None);
    }

    #[test]
    fn who_waited_for_its_turn_waits_for_a_place_like_all_others() {
        let view = view(one_place(OnOverload::Refuse));
        check(&view, "a", Queued::Due, "follow a");
        let _held = take(&view, "a");
        check(&view, "a", Queued::Due, "wait");
    }
}
