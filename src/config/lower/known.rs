//! The apps of the configuration before, so that what is the same is there once.

use std::cell::OnceCell;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::balancer::name::AppName;
use crate::balancer::shared::Shared;
use crate::balancer::state::AppSpec;

/// The apps that were read before.
pub(super) struct Known<'b> {
    apps: &'b [Shared<AppSpec>],
    by_name: OnceCell<HashMap<&'b AppName, &'b Shared<AppSpec>, RandomState>>,
}

impl<'b> Known<'b> {
    /// Those of a configuration.
    pub(super) fn of(apps: &'b [Shared<AppSpec>]) -> Self {
        Self { apps, by_name: OnceCell::new() }
    }

    /// The app that was known, if it is the same; else this one, which stands at `index`.
    ///
    /// At once, not when all are read: what is not kept makes room for the next, and 100,000 apps are mostly the same.
    pub(super) fn share(&self, app: AppSpec, index: usize) -> Shared<AppSpec> {
        match self.find(&app.name, index) {
            Some(known) if **known == app => Shared::clone(known),
            Some(_) | None => Shared::from(app),
        }
    }

    fn find(&self, name: &AppName, index: usize) -> Option<&'b Shared<AppSpec>> {
        // Mostly where it was.
        if let Some(there) = self.apps.get(index).filter(|app| app.name == *name) {
            return Some(there);
        }
        let by_name = || self.apps.iter().map(|app| (&app.name, app)).collect();
        self.by_name.get_or_init(by_name).get(name).copied()
    }
}
