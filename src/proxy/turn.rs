//! A request that waits for a place at its backend.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::watch;

use super::context::RequestContext;
use crate::balancer::app::backend::Slot;
use crate::balancer::app::queue::{Place, Ticket};
use crate::balancer::app::view::AppView;
use crate::balancer::assign::{Assignment, Queued};
use crate::shared::Clock;

/// How far a request got in the queue of its backend.
#[derive(Default)]
pub(super) struct Turn {
    /// When it began to wait, on the monotonic clock.
    since: Option<Duration>,
    /// Its turn, kept while another snapshot is looked at.
    ticket: Option<Ticket>,
    /// The place that it was given, and where.
    pub(super) place: Option<(Slot, Place)>,
    is_late: bool,
    /// Whether it waited for a backend that starts slowly for as long as it may.
    is_due: bool,
}

impl Turn {
    /// What the decision has to know of it.
    pub(super) fn queued(&self) -> Queued {
        match (&self.place, &self.ticket) {
            (Some((slot, _)), _) => Queued::Holds(*slot),
            (None, _) if self.is_late => Queued::InVain,
            (None, Some(_)) => Queued::Waits,
            (None, None) if self.is_due => Queued::Due,
            (None, None) => Queued::Not,
        }
    }

    /// Notes that it goes to its backend now, or to the end of its queue, however slowly that starts.
    pub(super) fn come(&mut self) {
        self.is_due = true;
    }

    /// Leaves the queue, and gives up a place that it was given: it waits for something else.
    pub(super) fn leave(&mut self) {
        (self.ticket, self.place) = (None, None);
    }

    /// Waits until it has a place, its time is over, or there is another snapshot to look at. Returns at once when
    /// the queue has become full.
    pub(super) async fn wait(
        &mut self,
        clock: &Clock,
        view: &AppView,
        slot: Slot,
        changed: &mut watch::Receiver<()>,
    ) {
        let limits = &view.app.policy.limits;
        let live = &view.app.backend(slot).live;
        let now = clock.monotonic();
        let since = *self.since.get_or_insert(now);
        let left = limits.queue_timeout.saturating_sub(now.saturating_sub(since));
        let kept = self.ticket.take().filter(|ticket| ticket.is_for(live));
        let Some(ticket) = kept.or_else(|| Ticket::draw(live, limits.queue)) else { return };
        let limit = limits.backend_in_flight.unwrap_or(u64::MAX);
        tokio::select! {
            // First: a place that is given counts for the snapshot that was looked at.
            biased;
            _another = changed.changed() => self.ticket = Some(ticket),
            place = poll_fn(|cx| ticket.poll(cx.waker(), limit)) => self.place = Some((slot, place)),
            () = tokio::time::sleep(left) => self.is_late = true,
        }
    }

    /// Hands the place over to the request, if it is for where it goes. Any other is free again.
    pub(super) fn hand_over(&mut self, assignment: &Assignment, ctx: &mut RequestContext) -> bool {
        let Some((slot, place)) = self.place.take() else { return false };
        let fits = assignment.slot() == Some(slot);
        if fits {
            ctx.backend_in_flight = Some(place);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::balancer::app::live::BackendLive;

    #[test]
    fn a_request_knows_how_far_it_got() {
        let mut turn = Turn::default();
        assert_eq!(turn.queued(), Queued::Not);
        let live = Arc::<BackendLive>::default();
        turn.ticket = Ticket::draw(&live, 1);
        assert_eq!(turn.queued(), Queued::Waits);
        let slot = Slot::all().next().unwrap();
        turn.place = Some((slot, Place::take(&live)));
        assert_eq!(turn.queued(), Queued::Holds(slot));
        turn.leave();
        assert_eq!(turn.queued(), Queued::Not);
        assert!(live.queue.is_empty(), "nobody waits for who waits for something else");
        assert_eq!(live.in_flight.read(), 0);
        turn.come();
        assert_eq!(turn.queued(), Queued::Due);
        turn.is_late = true;
        assert_eq!(turn.queued(), Queued::InVain);
    }
}
