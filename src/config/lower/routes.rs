//! Which app has which domain and path, to find two that want the same.

use super::super::fields::Problems;
use super::super::problem::{Place, Problem};
use super::firsts::Firsts;
use crate::balancer::affinity::AffinityPolicy;
use crate::balancer::affinity::way::Way;
use crate::balancer::name::{AppName, DomainPattern};
use crate::balancer::route::{AppIndex, PREFIXES_MAX, RouteTable};
use crate::balancer::state::AppSpec;

#[derive(Default)]
pub(super) struct Routes {
    table: RouteTable,
    /// The apps that were added, by their index in the table.
    apps: Vec<(AppName, Place)>,
    cookies: Firsts<CookieKey, AppIndex>,
}

/// What browsers tell cookies apart by (RFC 6265 §5.3): name, path, domain.
type CookieKey = (Box<str>, Box<str>, DomainPattern);

impl Routes {
    pub(super) fn add(&mut self, app: &AppSpec, place: Place, problems: &mut Problems) {
        let index = AppIndex(self.apps.len());
        self.apps.push((app.name.clone(), place));
        for domain in &app.policy.domains {
            let count = self.table.prefixes(domain) + app.policy.path_prefixes.len();
            if count > PREFIXES_MAX {
                let text = format!(
                    "expected at most {PREFIXES_MAX} prefixes of `{domain}` in all apps, found {count}"
                );
                problems.note(Problem::at(place, text));
            } else if self.add_domain(domain, app, index, problems) {
                self.add_cookie(domain, app, index, problems);
            }
        }
    }

    /// Whether the domain was free for all that the app wants of it.
    fn add_domain(
        &mut self,
        domain: &DomainPattern,
        app: &AppSpec,
        index: AppIndex,
        problems: &mut Problems,
    ) -> bool {
        let prefixes = &app.policy.path_prefixes;
        let whole = prefixes.is_empty().then_some(None);
        let before = problems.found.len();
        for prefix in whole.into_iter().chain(prefixes.iter().map(Some)) {
            if let Err(conflict) = self.table.add(domain, prefix, index) {
                let (first, at) = &self.apps[conflict.taken_by.0];
                let text =
                    format!("{conflict}: to `{first}` (line {}) and to `{}`", at.line, app.name);
                let help = "part them by `domains` or `path_prefixes`";
                problems.note(Problem::at(self.apps[index.0].1, text).help(help));
            }
        }
        problems.found.len() == before
    }

    /// Two apps must not overwrite each other's cookies.
    fn add_cookie(
        &mut self,
        domain: &DomainPattern,
        app: &AppSpec,
        index: AppIndex,
        problems: &mut Problems,
    ) {
        let affinity = app.affinity.as_ref();
        let sets_cookie = |own: &&AffinityPolicy| own.identify_by.contains(&Way::Cookie);
        let Some(affinity) = affinity.filter(sets_cookie) else { return };
        let cookie = &affinity.cookie;
        let path = &cookie.path;
        let domain = cookie.domain.clone().map_or_else(|| domain.clone(), DomainPattern::Exact);
        for name in std::iter::once(cookie.name.clone()).chain(cookie.twin_name()) {
            let key = (name.clone(), path.clone(), domain.clone());
            let first = self.cookies.earlier(key, index).filter(|first| *first != index);
            let Some(first) = first else { continue };
            let (app, other) = (&app.name, &self.apps[first.0].0);
            let text = format!(
                "`{app}` and `{other}` share `{domain}`, and both set a cookie `{name}` with path `{path}`"
            );
            let own = &cookie.name;
            let help = format!(
                "give one of them its own: `affinity: {{ cookie: {{ name: {own}-{app} }} }}`"
            );
            problems.note(Problem::at(self.apps[index.0].1, text).help(help));
        }
    }
}
