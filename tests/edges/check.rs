//! What must hold for a request.

use std::time::Duration;

use rand::RngExt;

use homing::balancer::affinity::{HandOut, Key, OnUnavailable, Presented};
use homing::balancer::app::members::{Admission, Closed};
use homing::balancer::assign::{Assignment, Cause, Patience};

use crate::edge::run_of;
use crate::{Cookie, LAG, Pin, World};

impl World {
    /// What may become of a pin. Answers whether an edit of a list cost it.
    pub(crate) fn check(
        &mut self,
        index: usize,
        edge: usize,
        pin: Option<&Pin>,
        presented: &Presented,
        assignment: &Assignment,
    ) -> bool {
        let own = &self.edges[edge];
        let Some(pin) = pin else {
            assert!(assignment.cause().is_none(), "{assignment:?} without a pin");
            return false;
        };
        let (unix, limit) = (own.unix(self.now), self.policies.0.borrow_limit.as_secs());
        let listed = own.listed(&pin.run.0).map(run_of);
        let follows = matches!(assignment, Assignment::Follow(..));
        assert!(!follows || own.id(assignment) == Some(&pin.run.0), "{assignment:?} of {pin:?}");
        let what = match &listed {
            None => {
                let may_come = own.left.may_come(&pin.run, pin.issued, unix, limit);
                assert_eq!(assignment.cause(), Some(Cause::Removed), "{pin:?}");
                let moved = matches!(assignment, Assignment::Move(..));
                assert!(!moved || !may_come, "lost though it may be elsewhere: {pin:?}");
                let lent = matches!(assignment, Assignment::Borrow(..));
                assert!(!lent || may_come, "lent though it left: {pin:?}");
                let again = own.decide(presented, Patience::Waits, self.now, &mut self.rng);
                assert_eq!(again, *assignment, "by chance");
                if lent { "lent" } else { "left" }
            }
            Some(run) if *run != pin.run => {
                let may_come = own.left.may_come_anew(&pin.run, pin.issued, unix, limit);
                let knows = assignment.cause() == Some(Cause::NewIncarnation);
                assert!(!knows || !may_come, "lost to an older run: {pin:?}");
                if let (Assignment::Follow(_, followed), Presented::Pin(pin)) =
                    (assignment, presented)
                {
                    let same = followed.token.incarnation == pin.token.incarnation;
                    assert_eq!(same, may_come, "a run is written over: {pin:?}");
                }
                if may_come { "followed as it is" } else { "of another run" }
            }
            Some(_) if follows => "followed",
            Some(_) => "away",
        };
        self.note(what);
        if !pin.disturbed {
            self.note("undisturbed");
            let own = &self.edges[edge];
            let waits = own.admission(&pin.run.0) == Some(Admission::Closed(Closed::Unknown));
            let moved = matches!(assignment, Assignment::Make(_) | Assignment::Move(..));
            assert!(!moved && (follows || waits || listed.is_none()), "{assignment:?} of {pin:?}");
        }
        self.check_cost(index, edge, pin, assignment)
    }

    /// No edit of a list costs a client two pins in a row to the same run, but for an edge that crashed and took a
    /// newer run for an older one. Answers whether an edit cost it this pin.
    fn check_cost(
        &mut self,
        index: usize,
        edge: usize,
        pin: &Pin,
        assignment: &Assignment,
    ) -> bool {
        let Assignment::Move(_, Cause::Removed | Cause::NewIncarnation) = assignment else {
            return false;
        };
        let own = &self.edges[edge];
        let left = |version: &usize| {
            self.versions[version - 1].has(&pin.run) && !self.versions[*version].has(&pin.run)
        };
        let Some(edit) = (1..=own.version).rev().find(left) else {
            let age = own.unix(self.now).saturating_sub(pin.issued);
            let late = age > self.policies.0.borrow_limit.as_secs();
            let forgot = assignment.cause() == Some(Cause::NewIncarnation);
            assert!(late || forgot, "{pin:?} never was on a list of this edge");
            return false;
        };
        let last = self.clients[index].cost.insert((pin.run.clone(), edit), self.now);
        let lists_take_too_long = self.policies.0.borrow_limit < Duration::from_secs(LAG);
        let again = last.is_some_and(|last| last < pin.made);
        assert!(!again || lists_take_too_long, "ping-pong: {pin:?} by list {edit}");
        self.note("cost by an edit");
        true
    }

    /// Edges that know the same give the same answers, to a cookie and to a client known by something else.
    pub(crate) fn agree(&mut self, shown: Option<&Cookie>) {
        let place = self.rng.random();
        let keyed = Presented::Key(Key { place, home: None, lost: None, cookie: HandOut::Yes });
        for first in 0..self.edges.len() {
            for second in first + 1..self.edges.len() {
                let pair = [&self.edges[first], &self.edges[second]];
                if !pair[0].lists_as(pair[1]) {
                    continue;
                }
                let mut answers = |presented: [&Presented; 2]| {
                    let one = |at: usize| {
                        let waits = Patience::Waits;
                        let decided =
                            pair[at].decide(presented[at], waits, self.now, &mut self.rng);
                        (decided, pair[at].id(&decided).cloned())
                    };
                    [0, 1].map(one)
                };
                // It is at home in the same place, whatever each of them knows of health.
                let [(one, to), (other, or)] = answers([&keyed, &keyed]);
                let both = [one, other].iter().all(|one| matches!(one, Assignment::Follow(..)));
                let alike = pair[0].knowledge == pair[1].knowledge;
                assert!(
                    to == or || !both && !alike,
                    "{one:?} or {other:?} of a client known by its key"
                );
                if !alike {
                    continue;
                }
                let Some(pin) = shown.map(|cookie| &cookie.pin) else { continue };
                let [one, other] = pair.map(|edge| edge.read(shown, self.now));
                let [(one, to), (other, or)] = answers([&one, &other]);
                // Of a run that left, one of them may remember what the other never heard of.
                let news = pair.map(|edge| {
                    let limit = self.policies.0.borrow_limit.as_secs();
                    edge.left.may_come_anew(&pin.run, pin.issued, edge.unix(self.now), limit)
                });
                let home = pair[0].listed(&pin.run.0);
                let other_run = home.is_some_and(|home| run_of(home) != pin.run);
                let forgot = other_run && news[0] != news[1];
                let borrows = self.policies.0.on_unavailable == OnUnavailable::Borrow && !other_run;
                let chance = home.is_some() && !borrows && matches!(one, Assignment::Move(..));
                assert!(forgot || chance || to == or, "{one:?} or {other:?} of {pin:?}");
            }
        }
    }
}
