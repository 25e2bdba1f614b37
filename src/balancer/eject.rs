//! Ejecting backends of one app, never too many of them; and the state that an app is in as a whole.

use std::time::Duration;

use super::app::backend::Address;
use super::app::health::ProbeOutcome;
use super::app::members::{Admission, Around, Closed, Member};
use super::app::outliers::{End, Why};
use super::entry::Entry;
use super::name::BackendId;
use super::state::Applied;

impl Entry {
    /// Ejects a backend whose requests fail, if others take new clients, and not too many are ejected. What was
    /// found at another address than its own is old.
    pub(super) fn eject(
        &mut self,
        backend: &BackendId,
        address: &Address,
        why: Why,
        now: Duration,
        applied: &mut Applied,
    ) {
        let is_it =
            |member: &Member| member.backend.id == *backend && member.backend.address == *address;
        let Some(index) = self.members.iter().position(is_it) else { return };
        let Some(policy) = &self.app.policy.outliers else { return };
        // One that takes nobody new is none to be spared; and in a panic no verdict is worth much.
        let serves = matches!(
            self.members[index].admission(),
            Admission::Open | Admission::Closed(Closed::Quarantined)
        );
        if !serves || self.members[index].ejections.is_on() || self.panic.is_some() {
            return;
        }
        let ejected = self.members.iter().filter(|member| member.ejections.is_on()).count();
        let others = self.members.iter().zip(0..).filter(|(_, other)| *other != index);
        let may_go = others.map(|(member, _)| member).any(Member::welcomes);
        let live = &self.members[index].backend.live;
        if ejected >= policy.ejected_max(self.members.len()) || !may_go {
            live.spared.add(1);
            return;
        }
        live.count_ejection(why);
        self.members[index].ejections.begin(policy, now);
        self.refresh(now, applied);
    }

    /// Takes in what a probe says of an ejected backend, where probes may end that.
    pub(super) fn probe_ejected(
        &mut self,
        backend: &BackendId,
        address: &Address,
        outcome: &ProbeOutcome,
        now: Duration,
    ) {
        let rise = self.thresholds().rise;
        let Some(policy) = &self.app.policy.outliers else { return };
        let is_it = |member: &&mut Member| {
            member.backend.id == *backend && member.backend.address == *address
        };
        if policy.end == End::Probes
            && let Some(member) = self.members.iter_mut().find(is_it)
            && member.ejections.is_on()
            && member.ejections.observe(outcome, rise, now)
        {
            member.backend.live.record.forget();
        }
    }

    /// Ends ejections that a new configuration has no room for, those first that would end first.
    pub(super) fn keep_within_cap(&mut self, now: Duration) {
        let policy = self.app.policy.outliers.as_ref();
        let most = policy.map_or(0, |policy| policy.ejected_max(self.members.len()));
        let mut ejected: Vec<&mut Member> =
            self.members.iter_mut().filter(|member| member.ejections.is_on()).collect();
        ejected.sort_by_key(|member| member.ejections.until());
        let surplus = ejected.len().saturating_sub(most);
        for member in ejected.into_iter().take(surplus) {
            member.ejections.end(now);
            member.backend.live.record.forget();
        }
    }

    /// Tells every backend what it has to know of the app. Answers whether the app panics, or calmed down.
    ///
    /// Backends that ask for no new clients, or are ejected, have their way as long as others take those.
    pub(super) fn look_around(&mut self) -> bool {
        self.members.iter_mut().for_each(Member::forget_asked);
        let policy = &self.app.policy;
        let panic = policy.panic.and_then(|policy| policy.judge(&self.members));
        let pinned = policy.outliers.as_ref().map_or_else(Default::default, |own| own.pinned);
        // As if nobody was left out: a member in need of clients says that itself.
        let around = Around { alone: false, pinned, panic };
        self.members.iter_mut().for_each(|member| member.around = around);
        let alone = !self.members.iter().any(Member::welcomes);
        self.members.iter_mut().for_each(|member| member.around.alone = alone);
        std::mem::replace(&mut self.panic, panic) != panic
    }
}
