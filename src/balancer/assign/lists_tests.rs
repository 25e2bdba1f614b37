//! Pins of edges whose lists differ, and clients that were lent, by tables.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::tests::{pin_of, seen};
use super::*;
use crate::balancer::affinity::AffinityPolicy;
use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::state::{Balancer, Event};
use crate::balancer::testing;

/// Decides for a pin on an edge that took `lists` one after another, each at its time, with all backends open.
/// Of `a` and `b` the client has `b` for its stand-in, of `a`, `b` and `d` it has `d`.
/// `pin`: where it leads, and when it was made. `b'` is an earlier incarnation of `b`, on a list as in a pin. Times are
/// Unix seconds; the limit is 600 of them, and clocks may be 60 apart.
#[track_caller]
fn check_lists(
    policy: AffinityPolicy,
    lists: &[(u64, &str)],
    pin: (&str, u64),
    now: u64,
    expected: &str,
) {
    let mut balancer = Balancer::default();
    for (taken, words) in lists {
        let event = Event::Configured(Box::new(testing::listed(policy.clone(), words, *taken)));
        balancer.apply(event, Duration::ZERO);
    }
    for word in lists.last().unwrap().1.split_whitespace() {
        let event = testing::probed(word.trim_end_matches('\''), ProbeOutcome::Passed);
        balancer.apply(event, Duration::ZERO);
    }
    let view = Arc::clone(&balancer.snapshot().apps[0]);
    let mut shown = testing::pin(pin.0);
    shown.token.issued = u32::try_from(pin.1).unwrap();
    let presented = Presented::Pin(shown);
    let seen = seen(&view, |seed| {
        let request = Request { now, ..testing::request(&presented, &Tried::NONE) };
        let assignment = assign(&view, &request, &mut SmallRng::seed_from_u64(seed));
        if let Assignment::Follow(_, followed) = assignment {
            assert_eq!(followed.token.client, shown.token.client);
        }
        assignment
    });
    assert_eq!(seen, expected, "{lists:?} | pin {pin:?} | {now}");
}

#[test]
fn a_pin_to_a_backend_that_only_another_edge_has_is_lent() {
    for choice in
        [OnUnavailable::Move, OnUnavailable::Borrow, OnUnavailable::Wait, OnUnavailable::Refuse]
    {
        let policy = || testing::affinity(choice);
        let lists = [(1_000, "a b")];
        check_lists(policy(), &lists, ("c", 2_000), 2_000, "borrow b removed");
        // This edge began after it was made.
        check_lists(policy(), &lists, ("c", 400), 1_000, "borrow b removed");
        // The limit, and a clock that may be ahead; it goes where it was lent to.
        check_lists(policy(), &lists, ("c", 2_000), 2_660, "borrow b removed");
        check_lists(policy(), &lists, ("c", 2_000), 2_661, "move b removed");
        // The list arrived.
        check_lists(policy(), &[lists[0], (2_100, "a b c")], ("c", 2_000), 2_661, "follow c");
    }
}

#[test]
fn other_edits_of_the_list_do_not_make_a_pin_of_a_newer_one_old() {
    let lists = [(1_000, "a b e"), (2_500, "a b e"), (2_500, "b d a")];
    let policy = || testing::affinity(OnUnavailable::Move);
    check_lists(policy(), &lists, ("c", 2_000), 2_500, "borrow d removed");
    // One that left before the pin was made, and came back elsewhere.
    check_lists(policy(), &lists, ("e", 2_501), 2_500, "borrow d removed");
}

#[test]
fn a_pin_to_a_backend_that_left_since_is_moved_at_once_to_the_same_backend_everywhere() {
    let policy = || testing::affinity(OnUnavailable::Move);
    let lists = [(1_000, "a b c"), (2_500, "a b")];
    check_lists(policy(), &lists, ("c", 2_500), 2_500, "move b removed");
    // That it left is not forgotten by lists that say the same, or less.
    let after = [lists[0], lists[1], (2_600, "b a"), (2_700, "a b d"), (3_000, "a b d")];
    check_lists(policy(), &after, ("c", 2_500), 3_000, "move d removed");
    // Who was gone and is back is there, and leaves anew.
    let back = [lists[0], lists[1], (2_600, "a b c"), (2_900, "a b")];
    check_lists(policy(), &back[..3], ("c", 2_500), 3_000, "follow c");
    check_lists(policy(), &back, ("c", 2_900), 3_000, "move b removed");
    check_lists(policy(), &back, ("c", 2_901), 3_000, "borrow b removed");
}

#[test]
fn a_pin_to_a_run_that_only_another_edge_has_is_followed_as_it_is() {
    let policy = |choice| AffinityPolicy {
        on_incarnation_change: choice,
        ..testing::affinity(OnUnavailable::Move)
    };
    for (choice, after) in [
        (OnIncarnationChange::Move, "move a new_incarnation, move b new_incarnation"),
        (OnIncarnationChange::Refuse, "refuse new_incarnation"),
    ] {
        // This edge has `b`, another one `b'`.
        let lists = [(1_000, "a b")];
        check_lists(policy(choice), &lists, ("b'", 2_000), 2_660, "follow b");
        check_lists(policy(choice), &lists, ("b'", 2_000), 2_661, after);
        check_lists(policy(choice), &lists, ("b'", 939), 1_000, after);
        // It was here: it is over, also where an edge with an older list goes on with it.
        let lists = [(1_000, "a b'"), (2_000, "a b")];
        check_lists(policy(choice), &lists, ("b'", 1_990), 2_000, after);
        check_lists(policy(choice), &lists, ("b'", 2_200), 2_200, after);
    }
}

#[test]
fn a_run_of_another_edge_is_not_written_over() {
    let policy = AffinityPolicy {
        on_incarnation_change: OnIncarnationChange::Follow,
        ..testing::affinity(OnUnavailable::Move)
    };
    let mut balancer = Balancer::default();
    let spec = testing::listed(policy, "a b", 1);
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    balancer.apply(testing::probed("b", ProbeOutcome::Passed), Duration::ZERO);
    let view = Arc::clone(&balancer.snapshot().apps[0]);
    let pin = testing::pin("b'");
    let request = |now| {
        let presented = Presented::Pin(pin);
        let request = Request { now, ..testing::request(&presented, &Tried::NONE) };
        assign(&view, &request, &mut SmallRng::seed_from_u64(1))
    };
    let slot = view.app.find(testing::hash("b")).unwrap();
    assert_eq!(request(661), Assignment::Follow(slot, pin));
    assert_ne!(request(662), Assignment::Follow(slot, pin), "of the run on the list from now on");
}

#[test]
fn nobody_stands_in_where_nobody_is_open() {
    let view = |words| {
        let mut balancer = testing::balancer(OnUnavailable::Move, words);
        balancer.apply(testing::maintained(false), Duration::ZERO);
        Arc::clone(&balancer.snapshot().apps[0])
    };
    let mut pin = testing::pin("z");
    pin.token.issued = u32::try_from(testing::TAKEN).unwrap();
    let presented = Presented::Pin(pin);
    let decide = |words| {
        let request = Request { now: testing::TAKEN, ..testing::request(&presented, &Tried::NONE) };
        assign(&view(words), &request, &mut SmallRng::seed_from_u64(1))
    };
    let lost = Some(Cause::Removed);
    assert_eq!(decide("a!"), Assignment::Refuse(Refusal::NoneOpen(lost)));
    assert_eq!(decide("a~"), Assignment::Wait(Waiting::Opening(Closed::Unknown, lost)));
    assert_eq!(decide("a! b").outcome(), Outcome::Borrowed);
}

#[test]
fn a_client_whose_home_is_given_up_goes_where_it_was_lent_to() {
    let mut balancer = testing::balancer(OnUnavailable::Borrow, "a b c d e!");
    let clients: Vec<Pin> = (0..64).map(pin_of("e")).collect();
    let decide = |balancer: &Balancer, pin: &Pin, seed| {
        let view = &balancer.snapshot().apps[0];
        let presented = Presented::Pin(*pin);
        let request = testing::request(&presented, &Tried::NONE);
        assign(view, &request, &mut SmallRng::seed_from_u64(seed))
    };
    let lent: Vec<Assignment> = clients.iter().map(|pin| decide(&balancer, pin, 0)).collect();
    assert!(lent.iter().all(|lent| lent.outcome() == Outcome::Borrowed));
    balancer.apply(Event::Ticked, 601 * testing::SECOND);
    for (pin, lent) in clients.iter().zip(lent) {
        for seed in 0..4 {
            let slot = lent.slot().unwrap();
            assert_eq!(decide(&balancer, pin, seed), Assignment::Move(slot, Cause::Unhealthy));
        }
    }
}
