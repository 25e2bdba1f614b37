//! The `defaults` section, and how an app takes from it what it leaves open.

use std::borrow::Cow;
use std::collections::HashSet;

use super::super::fields::Problems;
use super::super::problem::{Place, Problem};
use super::super::scalar::{self, Switch};
use super::super::tree::{Tree, Value};
use super::app::{Scope, policies};
use super::pages::Pages;
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::name::AppName;

/// What holds for every app that does not say otherwise.
#[derive(Default)]
pub(super) struct Defaults<'t> {
    section: Option<&'t Tree>,
    /// Every place in the section.
    places: HashSet<Place>,
    /// What is said of failures; of those that belong to no app, too.
    pub(super) errors: ErrorPolicy,
    /// What is wrong with the section by itself, also where every app replaces it.
    noted: HashSet<Problem>,
}

impl<'t> Defaults<'t> {
    pub(super) fn read(
        section: Option<&'t Tree>,
        pages: &mut Pages<'_>,
        problems: &mut Problems,
    ) -> Self {
        let Some(tree) = section else { return Self::default() };
        let mut own = Problems::default();
        let mut errors = ErrorPolicy::default();
        if let Some(mut fields) = own.fields(tree, "`defaults`") {
            let all = policies(&mut fields, &Self::default(), Scope::Defaults, pages, &mut own);
            errors = all.errors;
            fields.finish(&mut own);
        }
        let mut places = HashSet::new();
        tree.places(&mut places);
        problems.found.extend(own.found.iter().cloned());
        problems.files.append(&mut own.files);
        Self { section, places, errors, noted: own.found.into_iter().collect() }
    }

    /// The section of an app, with what it leaves open taken from the section of that name here.
    pub(super) fn under<'a>(&self, own: Option<&'a Tree>, key: &str) -> Option<Cow<'a, Tree>>
    where
        't: 'a,
    {
        match (own, self.section.and_then(|section| section.get(key))) {
            (Some(own), Some(default)) => Some(Cow::Owned(own.over(default))),
            (Some(tree), None) | (None, Some(tree)) => Some(Cow::Borrowed(tree)),
            (None, None) => None,
        }
    }

    /// The same for a section that a switch may stand for: `on` keeps what is said here.
    pub(super) fn under_switch<'a>(&self, own: Option<&'a Tree>, key: &str) -> Option<Cow<'a, Tree>>
    where
        't: 'a,
    {
        let says_more = |tree: &Tree| matches!(tree.value, Value::Map(_));
        let more_here = self.section.and_then(|section| section.get(key)).is_some_and(says_more);
        let is_on = |tree: &&Tree| scalar::switch(tree.value.text()) == Ok(Switch::On);
        self.under(own.filter(|tree| !(more_here && is_on(tree))), key)
    }

    /// Passes on what was found in an app. What stands here is wrong for every app and was noted,
    /// or is wrong together with what the app says: then its name belongs to it. Files that were read count as read,
    /// and what is in doubt is in doubt for whoever uses it.
    pub(super) fn pass_on(&self, found: Problems, app: Option<&AppName>, problems: &mut Problems) {
        problems.files.extend(found.files);
        problems.doubts.extend(found.doubts);
        for problem in found.found {
            if !self.places.contains(&problem.place()) {
                problems.note(problem);
            } else if !self.noted.contains(&problem) {
                let whose = app.map_or_else(|| "an app".into(), |name| format!("app `{name}`"));
                problems.note(problem.of(&whose));
            }
        }
    }
}
