//! Scale-ups, simulated: clients of several habits, the real balancer, and how it evens them out.
//!
//! `HOMING_SEED=123 cargo test --test rebalance` replays a seed that a failure printed.
//! `HOMING_PLOT=docs/rebalance.svg cargo test --test rebalance` draws the plot of docs/rebalance.md.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

mod habits;
mod plot;
mod world;

use std::time::Duration;

use homing::balancer::rebalance::RebalancePolicy;

use self::habits::Habit;
use self::world::{Course, World};

const POLICY: RebalancePolicy = RebalancePolicy {
    bound: 1250,
    budget_percent: 10,
    idle: Duration::from_secs(60),
    rest: Duration::from_secs(3600),
};

/// Backends before and after, and the bound: ten become eleven within 1.25 whatever happens.
const SCALES: [(u16, u16, u16); 3] = [(3, 6, 1250), (10, 11, 1250), (20, 40, 1250)];

fn course(habit: Habit, (before, after, bound): (u16, u16, u16), seed: u64) -> Course {
    let policy = RebalancePolicy { bound, ..POLICY };
    World::new(habit, policy, before, seed).scale_up(after)
}

#[test]
fn explore() {
    for scale in SCALES {
        for habit in Habit::ALL {
            let course = course(habit, scale, 1);
            println!("{habit:?} {scale:?}: {}", course.summary());
        }
    }
}
