//! What a response hands to a client, by tables.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balancer::state::{Balancer, Event};
use crate::balancer::testing;

const NOW: u64 = 50;

/// An app that evens its clients out.
fn rebalanced() -> Arc<AppView> {
    let mut spec = testing::spec(&["a", "b"]);
    spec.apps[0].affinity.as_mut().unwrap().rebalance = Some(testing::REBALANCE);
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    Arc::clone(&balancer.snapshot().apps[0])
}

fn pin(notes: Notes) -> Pin {
    let pin = testing::pin("a");
    Pin { token: Token { notes, ..pin.token }, ..pin }
}

fn handed(view: &AppView, assignment: Assignment, pin: Pin, may_move: bool) -> Option<Notes> {
    let word = AppWord { may_move, ..AppWord::default() };
    let rng = &mut SmallRng::seed_from_u64(1);
    let token = assignment.token(view, &Presented::Pin(pin), word, NOW, rng)?;
    assert_eq!(token.client, pin.token.client, "whoever has a pin keeps its number");
    Some(token.notes)
}

#[test]
fn what_the_app_lets_go_is_noted_once_and_taken_back_when_it_does_not_say_so_again() {
    let view = rebalanced();
    let home = view.app.find(testing::hash("a")).unwrap();
    let (free, bound) = (Notes { may_move: true, ..Notes::default() }, Notes::default());
    for (notes, says, expected) in [
        (bound, false, None),
        (bound, true, Some(free)),
        (free, true, None),
        (free, false, Some(bound)),
    ] {
        let pin = pin(notes);
        let told = handed(&view, Assignment::Follow(home, pin), pin, says);
        assert_eq!(told, expected, "{notes:?}, the app says {says}");
    }
    let plain = testing::view(OnUnavailable::Move, "a");
    let follow = Assignment::Follow(home, pin(bound));
    assert_eq!(handed(&plain, follow, pin(bound), true), None, "where nobody is moved");
}

#[test]
fn who_was_moved_to_even_out_load_rests_wherever_it_goes() {
    let view = rebalanced();
    let other = view.app.find(testing::hash("b")).unwrap();
    for (before, cause, after) in [
        (false, Cause::Rebalanced, true),
        (true, Cause::Unhealthy, true),
        (false, Cause::Unhealthy, false),
    ] {
        let pin = pin(Notes { rebalanced: before, ..Notes::default() });
        let notes = handed(&view, Assignment::Move(other, cause), pin, false).unwrap();
        assert_eq!(notes.rebalanced, after, "{before} {cause:?}");
    }
}
