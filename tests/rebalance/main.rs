//! Scale-ups, simulated: clients of several habits, the real balancer, and how it evens them out.
//!
//! `HOMING_SEED=123 cargo test --test rebalance` replays a seed that a failure printed.
//! `HOMING_PLOT=docs/rebalance.svg cargo test --test rebalance` draws the plot of docs/rebalance.md.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]
#![expect(clippy::print_stdout, reason = "figures, and the seed to replay")]

mod habits;
mod plot;
mod world;

use std::time::Duration;

use homing::balancer::rebalance::RebalancePolicy;

use self::habits::Habit;
use self::plot::Panel;
use self::world::World;

/// What the file says with `rebalance: on`.
const POLICY: RebalancePolicy = RebalancePolicy {
    bound: 1250,
    budget_percent: 10,
    idle: Duration::from_secs(60),
    rest: Duration::from_secs(3600),
};

/// Backends before and after. Ten that become eleven are within the bound all the time.
const SCALES: [(u16, u16); 3] = [(3, 6), (10, 11), (20, 40)];

fn seed() -> u64 {
    std::env::var("HOMING_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap())
}

/// Runs all scale-ups with clients of this habit. Moves at unsafe moments and second moves end them.
#[track_caller]
fn check(habit: Habit) {
    let seed = seed();
    println!("replay with HOMING_SEED={seed} cargo test --test rebalance");
    for (before, after) in SCALES {
        let course = World::new(habit, Some(POLICY), before, seed).scale_up(after);
        println!("{habit:?}, {before} to {after}: {course}");
        let time = course.time_to_chance().expect("the bound is reached");
        assert!(time <= 30 * 60, "the bound is reached after {time} s");
        // Where next to nobody was beyond it, one percent of a share is chance.
        let most = (course.least * 1.2).max(3.0);
        assert!(course.moved as f64 <= most, "{} moved, where {most:.0} may be", course.moved);
        assert!(course.worst_minute <= 1.0, "{} of the budget of a minute", course.worst_minute);
        assert_eq!(course.moved_on, 0, "a backend that was added gave clients away");
        let last = course.points.last().unwrap().1;
        assert!(last <= course.beyond(3.0), "it did not stay within the bound: {last}");
    }
}

#[test]
fn steady_clients_are_evened_out_with_few_moves() {
    check(Habit::Steady);
}

#[test]
fn bursty_clients_are_evened_out_with_few_moves() {
    check(Habit::Bursty);
}

#[test]
fn clients_with_heavy_tails_are_evened_out_with_few_moves() {
    check(Habit::HeavyTailed);
}

#[test]
fn a_tight_bound_is_reached_with_few_moves() {
    let policy = RebalancePolicy { bound: 1050, ..POLICY };
    let world = World::new(Habit::Bursty, Some(policy), 10, seed()).with_clients(12_000.0);
    let course = world.scale_up(11);
    println!("{course}");
    assert!(course.least > 300.0 && course.time_to_chance().is_some_and(|time| time <= 900));
    assert!(course.moved as f64 <= course.least * 1.2);
}

#[test]
fn nobody_is_moved_while_nothing_is_added() {
    for habit in Habit::ALL {
        let course = World::new(habit, Some(POLICY), 10, seed()).scale_up(10);
        assert_eq!(course.moved, 0, "{habit:?}: {course}");
    }
}

#[test]
fn the_plot_is_drawn_where_it_is_asked_for() {
    let Ok(path) = std::env::var("HOMING_PLOT") else { return };
    let line = |habit: Habit, (before, after), on: bool| {
        let policy = on.then_some(POLICY);
        let course = World::new(habit, policy, before, 1).scale_up(after);
        let time = course.time_to_bound().unwrap_or_default() / 60;
        let label = format!(
            "{habit}: {time} min to 1.25, {} moved, {:.0} beyond it",
            course.moved, course.least
        );
        (label, course, on)
    };
    let panel = |scale: (u16, u16)| Panel {
        title: format!("{} to {} backends", scale.0, scale.1),
        lines: Habit::ALL
            .into_iter()
            .flat_map(|habit| [line(habit, scale, true), line(habit, scale, false)])
            .collect(),
    };
    std::fs::write(path, plot::svg(&SCALES.map(panel))).unwrap();
}
