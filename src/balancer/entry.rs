//! One app with all that is known of its backends, and the view that requests have of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::affinity::Affinity;
use super::app::App;
use super::app::backend::BackendSpec;
use super::app::health::Thresholds;
use super::app::live::AppLive;
use super::app::members::Member;
use super::app::view::{AppView, Standing};
use super::name::BackendId;
use super::state::{AppSpec, Applied, Transition};

/// One app with all that is known of its backends.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) app: Arc<App>,
    pub(super) members: Vec<Member>,
    pub(super) view: Arc<AppView>,
}

impl Entry {
    /// Makes the entry of a configuration; backends that stay keep what is known of them.
    pub(super) fn configured(
        spec: AppSpec,
        affinity: Option<Affinity>,
        last: Option<Self>,
        applied: &mut Applied,
    ) -> Self {
        let probed = spec.policy.health.is_some();
        let maintenance = last.as_ref().is_some_and(|last| last.view.maintenance);
        let (live, last) = match last {
            Some(last) => (Arc::clone(&last.app.live), last.members),
            None => (Arc::new(AppLive::default()), Vec::new()),
        };
        let mut last: HashMap<BackendId, Member> =
            last.into_iter().map(|member| (member.backend.id.clone(), member)).collect();
        let member = |spec: BackendSpec| match last.remove(&spec.id) {
            Some(survivor) => survivor.with(spec, probed),
            None => Member::new(spec, probed),
        };
        let members: Vec<Member> = spec.backends.into_iter().map(member).collect();
        let backends = members.iter().map(|member| Arc::clone(&member.backend)).collect();
        let app = Arc::new(App::new(spec.name, affinity, spec.policy, backends, live));
        let view = look(&app, &members, maintenance);
        let mut entry = Self { app, members, view };
        entry.announce(applied);
        entry
    }

    /// How many probes in a row change the health of a backend.
    pub(super) fn thresholds(&self) -> Thresholds {
        let health = self.app.policy.health.as_ref();
        health.map_or(Thresholds { rise: 1, fall: 1 }, |health| health.thresholds)
    }

    /// Closes the whole app, or opens it again.
    pub(super) fn maintain(&mut self, on: bool, applied: &mut Applied) {
        if self.view.maintenance != on {
            self.view = look(&self.app, &self.members, on);
            applied.changed = true;
        }
    }

    /// Ends what ends by itself.
    pub(super) fn pass(&mut self, now: Duration, applied: &mut Applied) {
        let mut ended = false;
        for member in &mut self.members {
            ended |= member.pass(now);
        }
        if ended {
            self.refresh(applied);
        }
    }

    /// When anything ends by itself, on the clock of the events.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        self.members.iter().filter_map(Member::next_end).min()
    }

    /// Makes a new view if anything changed for requests, and tells which admissions did.
    pub(super) fn refresh(&mut self, applied: &mut Applied) {
        if self.announce(applied) {
            self.view = look(&self.app, &self.members, self.view.maintenance);
            applied.changed = true;
        }
    }

    /// Tells what changed since it was last told; answers whether anything did.
    fn announce(&mut self, applied: &mut Applied) -> bool {
        let mut changed = false;
        for member in &mut self.members {
            let to = member.admission();
            let last = member.told.replace((to, member.drained));
            changed |= last != Some((to, member.drained));
            let from = last.map(|(admission, _)| admission);
            if from == Some(to) {
                continue;
            }
            // One closed for another reason is closed as before.
            if from.is_some_and(|from| from.label_index() != to.label_index()) {
                member.backend.live.count_transition(to.label_index());
            }
            let (app, backend) = (self.app.name.clone(), member.backend.id.clone());
            applied.transitions.push(Transition { app, backend, from, to });
        }
        changed
    }
}

/// Makes a view.
fn look(app: &Arc<App>, members: &[Member], maintenance: bool) -> Arc<AppView> {
    let standing =
        |member: &Member| Standing { admission: member.admission(), drained: member.drained };
    let mut view = AppView::new(Arc::clone(app), members.iter().map(standing).collect());
    view.maintenance = maintenance;
    Arc::new(view)
}
