//! The decision, by tables.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balancer::affinity::HandOut;
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::token::{ClientId, Token};
use crate::balancer::affinity::way::Way;
use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::app::members::AdminState;
use crate::balancer::app::slow_start::{PinnedStart, SlowStart};
use crate::balancer::rendezvous;
use crate::balancer::state::{Balancer, Event};
use crate::balancer::testing;

/// Decides one request.
///
/// `backends`: one word each, an id and what it admits: `a` open, `a?` pinned only (drain),
/// `a!` unhealthy, `a-` maintenance, `a~` unknown, `a*` quarantined, `a/` drained, `a!/` drained and
/// unhealthy.
/// `pin`: `-` none, `a` pinned to `a`, `a'` pinned to an earlier incarnation of `a`, `x` forged; `@a` known by
/// something else, whose home is `a`; `@a+` the same, and to get our cookie; `@ax` the same, with a forged one.
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
        pin => match pin.strip_prefix('@') {
            Some(key) => Presented::Key(key_of(&view, key)),
            None => Presented::Pin(testing::pin(pin)),
        },
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
pub(super) fn seen(view: &AppView, decide: impl Fn(u64) -> Assignment) -> String {
    let mut seen: Vec<String> = (0..64)
        .map(decide)
        .map(|assignment| {
            let to = assignment.slot().map(|slot| view.app.backend(slot).id.to_string());
            let kind = match assignment {
                Assignment::Borrow(..) => "borrow",
                Assignment::Follow(..) => "follow",
                Assignment::FollowOrMove(..) => "follow or move",
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

/// A key of this home, with a place that leads there.
fn key_of(view: &AppView, text: &str) -> Key {
    let id = text.trim_end_matches(['+', 'x']);
    let marks = text.trim_start_matches(id);
    let bare = |place| Key { place, home: None, lost: None, cookie: HandOut::No };
    let leads =
        |key: &Key| view.home_of(key).is_some_and(|slot| view.app.backend(slot).id.as_str() == id);
    let key = places().map(bare).find(leads).unwrap();
    match marks {
        "" => key,
        "+" => Key { cookie: HandOut::Yes, ..key },
        "x" => Key { cookie: HandOut::Yes, lost: Some(Cause::Forged), ..key },
        other => panic!("no such mark: {other}"),
    }
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
        | Assignment::FollowOrMove(..)
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
pub(super) fn pin_of(id: &str) -> impl Fn(u64) -> Pin {
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
fn what_a_client_is_known_by_is_followed() {
    check("a b c", "@b", "follow b");
    check("a b", "@b+", "follow b");
    check("a b~", "@b", "wait");
    check("", "-", "refuse");
}

#[test]
fn what_a_client_is_known_by_leads_to_its_home_while_that_drains() {
    check("a b?", "@b", "follow b");
    for (backends, key, expected) in [
        ("a b", "b", Renewal::NotDue),
        ("a b", "b+", Renewal::Due),
        ("a b?", "b+", Renewal::NotDue),
    ] {
        let view = testing::view(OnUnavailable::Move, backends);
        let presented = Presented::Key(key_of(&view, key));
        let mut rng = SmallRng::seed_from_u64(1);
        let assignment = assign(&view, &testing::request(&presented, &Tried::NONE), &mut rng);
        let Assignment::Follow(_, pin) = assignment else { panic!("{assignment:?}") };
        assert_eq!(pin.renewal, expected, "{backends}, {key}: a new pin only to an open backend");
    }
}

#[test]
fn one_backend_stands_in_for_the_home_of_what_a_client_is_known_by() {
    for policy in [OnUnavailable::Move, OnUnavailable::Borrow] {
        check_with(policy, "a b!", "@b", "", "borrow a unhealthy");
        check_with(policy, "a b-", "@b", "", "borrow a maintenance");
        check_with(policy, "a b*", "@b", "", "borrow a connect_failed");
        check_with(policy, "a b", "@b", "b", "borrow a connect_failed");
        check_with(policy, "a b/", "@b", "", "borrow a drain_deadline");
        check_with(policy, "a b~/", "@b+", "", "borrow a drain_deadline");
        check_with(policy, "a! b!", "@b", "", "refuse unhealthy");
        check_with(policy, "a~ b!", "@b", "", "wait unhealthy");
        check_with(policy, "a? b!", "@b", "", "refuse unhealthy");
    }
}

#[test]
fn those_whose_home_is_away_are_spread_over_the_others_and_each_stays_at_one() {
    let (all, left) = (homes("a b c"), testing::view(OnUnavailable::Move, "a! b c"));
    let mut counts = [0; 3];
    for (place, _) in all.iter().filter(|(_, home)| home == "a") {
        let key = Key { place: *place, home: None, lost: None, cookie: HandOut::No };
        let presented = Presented::Key(key);
        let decide = |now| {
            let request = Request { now, ..testing::request(&presented, &Tried::NONE) };
            assign(&left, &request, &mut SmallRng::seed_from_u64(now)).slot().unwrap()
        };
        assert!((2..6).all(|now| decide(now) == decide(1)));
        counts[decide(1).index()] += 1;
    }
    assert!(counts[0] == 0 && counts[1..].iter().all(|count| *count > 550), "{counts:?}");
}

#[test]
fn the_ladder_is_the_same_for_what_a_client_is_known_by() {
    check_with(OnUnavailable::Refuse, "a b!", "@b", "", "refuse unhealthy");
    check_with(OnUnavailable::Refuse, "a b", "@b", "b", "refuse connect_failed");
    check_with(OnUnavailable::Refuse, "a b/", "@b", "", "borrow a drain_deadline");
    check_with(OnUnavailable::Wait, "a b!", "@b", "", "wait unhealthy");
    check_with(OnUnavailable::Wait, "a b-", "@b", "", "borrow a maintenance");
    check_once(OnUnavailable::Wait, Patience::Over, "a b!", "@b", "", "borrow a unhealthy");
}

#[test]
fn a_client_whose_cookie_is_not_honoured_moves_to_the_home_of_what_else_it_is_known_by() {
    check("a b c", "@bx", "move b forged");
    check("a b?", "@bx", "move a forged");
    check("b?", "@bx", "refuse forged");
    check("a b!", "@bx", "borrow a unhealthy");
}

#[test]
fn a_key_that_names_a_backend_of_the_list_belongs_there() {
    let view = testing::view(OnUnavailable::Move, "a b c");
    for (index, id) in ["a", "b", "c"].into_iter().enumerate() {
        let home = Some(testing::hash(id));
        let key = Key { place: 7, home, lost: None, cookie: HandOut::No };
        assert_eq!(view.home_of(&key).map(Slot::index), Some(index));
    }
}

/// Places that are spread over all numbers.
fn places() -> impl Iterator<Item = u64> {
    (1..4001).map(rendezvous::mix)
}

fn homes(backends: &str) -> Vec<(u64, String)> {
    let view = testing::view(OnUnavailable::Move, backends);
    let key = |place| Key { place, home: None, lost: None, cookie: HandOut::No };
    let id = |place| view.app.backend(view.home_of(&key(place)).unwrap()).id.to_string();
    places().map(|place| (place, id(place))).collect()
}

#[test]
fn a_backend_that_joins_takes_its_share_of_all_others_and_nobody_else_moves() {
    let (three, four) = (homes("a b c"), homes("d c a b"));
    let moved: Vec<_> = three.iter().zip(&four).filter(|(old, new)| old != new).collect();
    assert!(moved.iter().all(|(_, (_, home))| home == "d"));
    let joined = four.iter().filter(|(_, home)| home == "d").count();
    assert_eq!(moved.len(), joined, "whoever is there now came from elsewhere");
    assert!((900..1100).contains(&joined), "a quarter of 4000: {joined}");
}

#[test]
fn homes_are_the_same_whatever_the_backends_admit_and_in_whatever_order_they_stand() {
    assert_eq!(homes("a b c"), homes("c! a? b-"));
}

#[test]
fn first_visits_of_the_same_place_are_drawn_alike_and_others_by_weight() {
    let view = testing::view(OnUnavailable::Move, "a b! c d?");
    let mut counts = [0; 4];
    for place in places() {
        let drawn = |seed| {
            let request = testing::request(&Presented::Nothing, &Tried::NONE);
            let request = Request { place: Some(place), ..request };
            assign(&view, &request, &mut SmallRng::seed_from_u64(seed))
        };
        let Assignment::Make(slot) = drawn(1) else { panic!("{:?}", drawn(1)) };
        assert!((2..5).all(|seed| drawn(seed) == Assignment::Make(slot)));
        counts[slot.index()] += 1;
    }
    assert_eq!((counts[1], counts[3]), (0, 0));
    assert!((1850..2150).contains(&counts[0]), "{counts:?}");
}

#[test]
fn first_visits_that_are_drawn_alike_spare_a_backend_that_starts_slowly() {
    let mut spec = testing::spec(&["a", "b"]);
    let mut policy = testing::policy("shop.example.com");
    policy.slow_start =
        Some(SlowStart { duration: 10 * testing::SECOND, pinned: PinnedStart::AtOnce });
    spec.apps[0].policy = Arc::new(policy);
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    balancer.apply(testing::probed("a", ProbeOutcome::Passed), Duration::ZERO);
    balancer.apply(Event::Ticked, 10 * testing::SECOND);
    balancer.apply(testing::probed("b", ProbeOutcome::Passed), 10 * testing::SECOND);
    let view = &balancer.snapshot().apps[0];
    let at_b = |place: &u64| view.draw_alike(*place, &Tried::NONE).unwrap().index() == 1;
    let count = places().filter(at_b).count();
    assert!((290..440).contains(&count), "an eleventh of 4000: {count}");
}

#[test]
fn who_is_not_to_get_our_cookie_goes_anywhere_on_a_first_visit() {
    let mut spec = testing::spec(&["a"]);
    if let Some(affinity) = &mut spec.apps[0].affinity {
        affinity.identify_by = Box::new([Way::Address]);
    }
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    balancer.apply(testing::probed("a", ProbeOutcome::Passed), Duration::ZERO);
    let request = testing::request(&Presented::Nothing, &Tried::NONE);
    let mut rng = SmallRng::seed_from_u64(1);
    let assignment = assign(&balancer.snapshot().apps[0], &request, &mut rng);
    assert_eq!(assignment.outcome(), Outcome::Off);
}

#[test]
fn the_lists_of_labels_are_in_step_with_their_enums() {
    assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    assert!(Cause::ALL.iter().enumerate().all(|(index, cause)| *cause as usize == index));
    assert_eq!(AdminState::Drain.as_str(), "drain");
}

#[test]
fn a_pin_begins_with_the_response_that_says_so_and_a_first_one_ends_before_it_was_made() {
    let slot = Slot::all().next().unwrap();
    let pin = testing::pin("a");
    assert_eq!(Assignment::Spread(slot).begun(), Assignment::Make(slot));
    assert_eq!(Assignment::Make(slot).ended(), Assignment::Spread(slot));
    for other in [
        Assignment::Borrow(slot, Cause::Unhealthy),
        Assignment::Follow(slot, pin),
        Assignment::Move(slot, Cause::Unhealthy),
    ] {
        assert_eq!((other.begun(), other.ended()), (other, other));
    }
    assert_eq!(Assignment::Make(slot).begun(), Assignment::Make(slot));
    assert_eq!(Assignment::Spread(slot).ended(), Assignment::Spread(slot));
}

/// An app whose pins begin with a session: what becomes of a request with this pin (as in [`check_with`]),
/// that shows a session or does not.
#[track_caller]
fn check_start(backends: &str, pin: &str, in_session: bool, expected: &str) {
    let mut spec = testing::spec(&["a"]);
    spec.apps[0].backends = backends.split(' ').map(testing::backend).collect();
    let sessions = StartOn::Cookies(["sid".into()].into());
    spec.apps[0].affinity.as_mut().unwrap().start_on = sessions;
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    balancer.apply(testing::probed("a", ProbeOutcome::Passed), Duration::ZERO);
    let view = Arc::clone(&balancer.snapshot().apps[0]);
    let presented = match pin {
        "-" => Presented::Nothing,
        "x" => Presented::Unusable(Cause::Forged),
        pin => Presented::Pin(testing::pin(pin)),
    };
    let request = Request { in_session, ..testing::request(&presented, &Tried::NONE) };
    let assignment = assign(&view, &request, &mut SmallRng::seed_from_u64(7));
    let cause = assignment.cause().map_or("", Cause::as_str);
    assert_eq!(format!("{} {cause}", assignment.outcome().as_str()).trim(), expected);
}

#[test]
fn where_pins_begin_with_a_session_a_client_without_one_is_spread() {
    check_start("a", "-", false, "off");
    check_start("a", "-", true, "made");
    check_start("a", "a", false, "followed");
    check_start("a", "x", false, "moved forged");
    check_start("a", "b", false, "moved removed");
}
