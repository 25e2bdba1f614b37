//! The apps of a snapshot, such that the next snapshot shares all that did not change.

use std::ops::Index;
use std::sync::Arc;

use super::app::view::AppView;

/// Views in one block. A new view costs a copy of its block and of the list of blocks, which are about as long as each
/// other with 100,000 apps.
const BLOCK: usize = 256;

/// The apps, by index. A copy costs a pointer a block.
#[derive(Clone, Debug, Default)]
pub struct Views {
    blocks: Vec<Arc<Vec<Arc<AppView>>>>,
}

impl Views {
    /// How many there are.
    pub fn len(&self) -> usize {
        let before = self.blocks.len().saturating_sub(1) * BLOCK;
        self.blocks.last().map_or(0, |block| before + block.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// All of them, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AppView>> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// Replaces the view of this index, if it is another one. Copies that were made before keep theirs.
    pub(super) fn set(&mut self, index: usize, view: &Arc<AppView>) {
        if !Arc::ptr_eq(&self[index], view) {
            Arc::make_mut(&mut self.blocks[index / BLOCK])[index % BLOCK] = Arc::clone(view);
        }
    }
}

impl FromIterator<Arc<AppView>> for Views {
    fn from_iter<I: IntoIterator<Item = Arc<AppView>>>(views: I) -> Self {
        let mut views = views.into_iter().peekable();
        let mut blocks = Vec::new();
        while views.peek().is_some() {
            blocks.push(Arc::new(views.by_ref().take(BLOCK).collect()));
        }
        Self { blocks }
    }
}

impl Index<usize> for Views {
    type Output = Arc<AppView>;

    fn index(&self, index: usize) -> &Arc<AppView> {
        &self.blocks[index / BLOCK][index % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::name::AppName;
    use crate::balancer::state::{AppSpec, Balancer, Event};
    use crate::balancer::testing::{spec, view};

    fn views(count: usize) -> Views {
        let one = view(OnUnavailable::Move, "a b");
        std::iter::repeat_with(|| Arc::new(AppView::new(Arc::clone(&one.app), Vec::new())))
            .take(count)
            .collect()
    }

    #[test]
    fn there_are_as_many_as_were_put_in_and_in_that_order() {
        for count in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let views = views(count);
            assert_eq!((views.len(), views.is_empty()), (count, count == 0));
            assert_eq!(views.iter().count(), count);
            assert!(views.iter().zip(0..).all(|(view, index)| Arc::ptr_eq(view, &views[index])));
        }
    }

    #[test]
    fn a_copy_keeps_what_is_replaced_and_shares_the_other_blocks() {
        let mut views = views(3 * BLOCK);
        let (before, changed) = (views.clone(), BLOCK + 3);
        let other = Arc::new(AppView::new(Arc::clone(&views[0].app), Vec::new()));
        views.set(changed, &other);
        assert!(Arc::ptr_eq(&views[changed], &other) && !Arc::ptr_eq(&before[changed], &other));
        let same = |index| Arc::ptr_eq(&views[index], &before[index]);
        assert!((0..3 * BLOCK).all(|index| same(index) == (index != changed)));
        let shared: Vec<bool> =
            views.blocks.iter().zip(&before.blocks).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(shared, [true, false, true]);
        let again = views.clone();
        views.set(changed, &other);
        assert!(Arc::ptr_eq(&views.blocks[1], &again.blocks[1]), "the same view is no change");
    }

    #[test]
    fn a_health_transition_of_one_app_shares_the_views_of_all_others() {
        let mut balancer = Balancer::default();
        let mut spec = spec(&["a", "b"]);
        let first = spec.apps[0].clone();
        spec.apps = (0..3 * BLOCK)
            .map(|number| AppSpec { name: name(number), ..AppSpec::clone(&first) }.into())
            .collect();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        let before = balancer.snapshot();
        let probed = Event::Probed {
            app: name(BLOCK + 7),
            backend: first.backends[0].id.clone(),
            address: first.backends[0].address.clone(),
            outcome: ProbeOutcome::Passed,
        };
        assert!(balancer.apply(probed, Duration::ZERO).changed);
        let after = balancer.snapshot();
        assert!((0..3 * BLOCK).all(|index| {
            Arc::ptr_eq(&before.apps[index], &after.apps[index]) == (index != BLOCK + 7)
        }));
        assert!(Arc::ptr_eq(&before.names, &after.names));
        assert!(Arc::ptr_eq(&before.routes, &after.routes));
        let found = after.app("app-7").unwrap();
        assert!(Arc::ptr_eq(found, &after.apps[7]) && after.app("app").is_none());
    }

    fn name(number: usize) -> AppName {
        AppName::parse(&format!("app-{number}")).unwrap()
    }
}
