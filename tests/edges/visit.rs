//! Clients send requests, and take cookies from the answers.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use homing::balancer::affinity::Presented;
use homing::balancer::affinity::cookie::Scheme;
use homing::balancer::affinity::word::AppWord;
use homing::balancer::assign::{Assignment, Patience};

use crate::{CLIENTS, Cookie, Pin, World};

impl World {
    /// A client sends a request, or two at once with the same cookie; the answers come in any order, or late.
    pub(crate) fn visit(&mut self) {
        let index = self.rng.random_range(..CLIENTS);
        let (late, forgets) = (self.chance(500), self.chance(80));
        let client = &mut self.clients[index];
        if let (true, Some(cookie)) = (late, client.late.pop()) {
            client.cookie = Some(cookie);
        }
        client.cookie.take_if(|cookie| forgets || cookie.ends <= self.now);
        let shown = client.cookie.clone();
        if self.chance(500) {
            self.agree(shown.as_ref());
        }
        let mut answers = Vec::new();
        for _ in 0..=u8::from(self.chance(300)) {
            let edge = self.any_edge();
            answers.extend(self.request(index, edge, shown.as_ref()));
        }
        answers.shuffle(&mut self.rng);
        for answer in answers {
            match self.chance(100) {
                true => self.clients[index].late.push(answer),
                false => self.clients[index].cookie = Some(answer),
            }
        }
    }

    fn request(&mut self, index: usize, edge: usize, shown: Option<&Cookie>) -> Option<Cookie> {
        let patience = if self.chance(300) { Patience::Over } else { Patience::Waits };
        let own = &self.edges[edge];
        let presented = own.read(shown, self.now);
        match (&presented, shown) {
            (Presented::Nothing, None) | (Presented::Pin(_), Some(_)) => {}
            _ => panic!("a cookie of ours is not honoured: {presented:?}"),
        }
        let assignment = own.decide(&presented, patience, self.now, &mut self.rng);
        let pin = shown.map(|cookie| &cookie.pin);
        let by_list = self.check(index, edge, pin, &presented, &assignment);
        let (own, now) = (&self.edges[edge], self.edges[edge].unix(self.now));
        let affinity = own.view.app.affinity.as_ref().unwrap();
        let word = AppWord::default();
        let token = assignment.token(&own.view, &presented, word, now, &mut self.rng)?;
        let line = affinity.set_cookies(&token, Scheme::Http, now).next().unwrap();
        let age = line.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap();
        let ends = self.now + Duration::from_secs(age.parse().unwrap());
        let run = self.runs[&token.incarnation].clone();
        let pin = match (&assignment, pin) {
            (Assignment::Follow(..) | Assignment::Borrow(..), Some(pin)) => {
                // A clock that is behind makes it a little older.
                let issued = u64::from(token.issued);
                assert!(issued <= pin.issued, "renewed, and made anew: {token:?} of {pin:?}");
                Pin { run: (pin.run.0.clone(), run), issued, ..pin.clone() }
            }
            _ => {
                if !by_list {
                    self.clients[index].cost.clear();
                }
                let id = self.edges[edge].id(&assignment).unwrap().clone();
                let issued = u64::from(token.issued);
                Pin { run: (id, run), issued, made: self.now, disturbed: false }
            }
        };
        let line = line.split(';').next().unwrap().to_owned();
        Some(Cookie { line, ends, pin })
    }
}
