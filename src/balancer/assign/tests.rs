//! The decision, by tables.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balancer::affinity::AffinityPolicy;
use crate::balancer::affinity::token::{ClientId, Token};
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
        "x" => Presented::Unusable(Cause::Forged),
        pin => Presented::Pin(testing::pin(pin)),
    };
    let mut tries = Tried::default();
    for id in tried.split_whitespace() {
        tries.push(view.app.find(testing::hash(id)).unwrap());
    }
    let seen = seen(&view, |seed| {
        let request = Request { patience, ..testing::request(&presented, &tries) };
        assign(&view, &request, &mut SmallRng::seed_from_u64(seed))
    });
    assert_eq!(seen, expected, "{backends} | pin {pin} | tried {tried}");
}

/// What is decided, whatever chance says.
fn seen(view: &AppView, decide: impl Fn(u64) -> Assignment) -> String {
    let mut seen: Vec<String> = (0..64)
        .map(decide)
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
    seen.join(", ")
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
        let assignment = assign(&view, &testing::request(&presented, &Tried::NONE), &mut rng);
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
        let slot = view.stand_in(mark, &Tried::NONE).unwrap();
        assert_eq!(view.stand_in(mark, &Tried::NONE), Some(slot));
        counts[slot.index()] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn who_stands_in_changes_for_those_only_whose_stand_in_went() {
    let [before, after] =
        ["a b c d!", "a b! c d!"].map(|words| testing::view(OnUnavailable::Borrow, words));
    for mark in (0..1000_u64).map(|mark| mark.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let last = before.stand_in(mark, &Tried::NONE).unwrap();
        let now = after.stand_in(mark, &Tried::NONE).unwrap();
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
        assign(&view, &testing::request(&presented, &Tried::NONE), &mut rng)
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
        &testing::request(&Presented::Nothing, &Tried::NONE),
        &mut SmallRng::seed_from_u64(1),
    );
    assert_eq!(wait.give_up(), Assignment::Refuse(Refusal::Unknown(None)));
}

/// Pins of different clients to a backend.
fn pin_of(id: &str) -> impl Fn(u64) -> Pin {
    let token = testing::pin(id).token;
    move |client| Pin {
        token: Token { client: ClientId::new(client), ..token },
        renewal: Renewal::NotDue,
    }
}

/// A pin to `a` of a client whose mark is within a hundredth of all of these.
fn pin_with_mark_near(mark: u64) -> Pin {
    let token = testing::pin("a").token;
    let clients = (0..10_000).map(ClientId::new);
    let near = |client: &ClientId| client.mark().abs_diff(mark) < u64::MAX / 100;
    let client = clients.into_iter().find(near).unwrap();
    Pin { token: Token { client, ..token }, renewal: Renewal::NotDue }
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
    let [first, middle, end] = [0, u64::MAX / 2, u64::MAX].map(pin_with_mark_near);
    let last = Presented::Pin(end);
    for (second, pin, waits) in
        [(0, first, false), (0, middle, true), (5, middle, false), (5, end, true)]
    {
        balancer.apply(Event::Ticked, second * testing::SECOND);
        let view = &balancer.snapshot().apps[0];
        let slot = view.app.find(pin.token.backend).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let assignment =
            assign(view, &testing::request(&Presented::Pin(pin), &Tried::NONE), &mut rng);
        assert_eq!(matches!(assignment, Assignment::Wait(_)), waits, "{second} s, {pin:?}");
        assert_eq!(assignment.give_up(), Assignment::Follow(slot, pin));
        assert_eq!(assignment.outcome(), Outcome::Followed);
    }
    balancer.apply(Event::Ticked, 10 * testing::SECOND);
    let view = &balancer.snapshot().apps[0];
    let mut rng = SmallRng::seed_from_u64(1);
    assert!(assign(view, &testing::request(&last, &Tried::NONE), &mut rng).slot().is_some());
    assert_eq!(balancer.next_tick(), None);
}

#[test]
fn the_lists_of_labels_are_in_step_with_their_enums() {
    assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    assert!(Cause::ALL.iter().enumerate().all(|(index, cause)| *cause as usize == index));
    assert_eq!(AdminState::Drain.as_str(), "drain");
}

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
