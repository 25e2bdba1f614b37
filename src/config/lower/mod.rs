//! From the tree to the model: one function a section, every problem collected.

mod acme;
mod admin;
mod adopt;
mod affinity;
mod app;
mod backend_tls;
mod backends;
mod certificates;
mod defaults;
mod errors;
mod health;
mod hsts;
mod keys;
mod lapse;
mod lenient;
mod limits;
mod listeners;
mod outliers;
mod pages;
mod panic;
mod process;
mod protocols;
mod proxy_protocol;
mod rate_limit;
mod rebalance;
mod redirect;
mod response_limits;
mod retries;
mod routes;
mod secrets;
mod slow_start;
mod start;
mod tls;
mod tracing;
mod ways;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::defaults::Defaults;
use self::pages::Pages;
use super::fields::Problems;
use super::model::Config;
use super::problem::{Place, Problem};
use super::scalar;
use super::tree::Tree;
use super::yaml;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Requests or connections that a limit may allow: more than any machine has ports for.
const COUNT: RangeInclusive<u64> = 1..=10_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the text of a file that stands in `directory`.
pub(super) fn lower(source: &str, directory: &Path) -> Result<Config, Vec<Problem>> {
    let tree = yaml::read(source).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let config = file(&tree, directory, &mut problems);
    match config {
        Some(config) if problems.found.is_empty() => Ok(config),
        Some(_) | None => Err(problems.found),
    }
}

/// Reads the state directory only.
pub(super) fn state_dir(source: &str, directory: &Path) -> Result<PathBuf, Vec<Problem>> {
    let tree = yaml::read(source).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let found = problems.fields(&tree, "the file").and_then(|mut fields| {
        state_dir_of(fields.optional("state_dir"), fields.place, directory, &mut problems)
    });
    found.ok_or(problems.found)
}

fn state_dir_of(
    tree: Option<&Tree>,
    place: Place,
    directory: &Path,
    problems: &mut Problems,
) -> Option<PathBuf> {
    match tree {
        Some(tree) => problems.scalar(tree, |text| path(text, directory)),
        None => default_state_dir(place, problems),
    }
}

fn file(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<Config> {
    let mut fields = problems.fields(tree, "the file")?;
    let tree = fields.optional("state_dir");
    let state_dir = state_dir_of(tree, fields.place, directory, problems);
    let server = process::server(fields.optional("server"), problems);
    let admin = admin::admin(fields.optional("admin"), directory, problems);
    let access_log = process::access_log(fields.optional("access_log"), directory, problems);
    let tracing = tracing::tracing(fields.optional("tracing"), problems);
    let trusted_proxies = fields.optional("trusted_proxies").and_then(|t| problems.list(t));
    let trusted_proxies = trusted_proxies.unwrap_or(&[]).iter();
    let trusted_proxies =
        trusted_proxies.filter_map(|t| problems.scalar(t, scalar::network)).collect();
    let keys = keys::keys(fields.optional("affinity_keys"), directory, problems);
    let mut pages = Pages::of(directory);
    let defaults = Defaults::read(fields.optional("defaults"), &mut pages, problems);
    let listeners = fields.required("listeners", problems);
    let listeners =
        listeners.map(|tree| listeners::listeners(tree, admin.as_ref(), directory, problems));
    let acme_tree = fields.optional("acme");
    let acme = acme::acme(acme_tree, directory, problems);
    let apps = fields.required("apps", problems);
    let default_app = fields.optional("default_app");
    let apps = apps.and_then(|tree| app::apps(tree, &defaults, default_app, &mut pages, problems));
    fields.finish(problems);
    let (apps, default_app) = apps?;
    let (mut listeners, asked): (Vec<_>, Vec<_>) = listeners?.into_iter().unzip();
    let names = acme::names(acme_tree, &asked, &apps, problems);
    listeners.iter_mut().zip(names).for_each(|(listener, names)| listener.acme = names);
    Some(Config {
        state_dir: state_dir?,
        server,
        listeners,
        acme,
        admin,
        access_log,
        tracing,
        trusted_proxies,
        errors: defaults.errors,
        keys,
        apps,
        default_app,
        files: std::mem::take(&mut problems.files),
        doubts: std::mem::take(&mut problems.doubts),
    })
}

/// A path of the file: relative ones start at the directory of the file.
fn path(text: &str, directory: &Path) -> Result<PathBuf, &'static str> {
    if text.is_empty() || text.contains('\0') {
        return Err("expected a path");
    }
    Ok(directory.join(text))
}

/// Remembers what came first under a key: the value that came before this one, if one did.
fn earlier<K: Eq + Hash, V: Clone>(first: &mut HashMap<K, V>, key: K, value: V) -> Option<V> {
    match first.entry(key) {
        Entry::Occupied(entry) => Some(entry.get().clone()),
        Entry::Vacant(entry) => {
            entry.insert(value);
            None
        }
    }
}

/// The state directory of the service (systemd), else one of the user's (XDG Base Directory).
fn default_state_dir(place: Place, problems: &mut Problems) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    // Several directories of a service are separated like those of `PATH`; the first is the state's.
    let of_service = variable("STATE_DIRECTORY");
    let of_service = of_service.and_then(|all| std::env::split_paths(&all).next());
    let of_user = || variable("XDG_STATE_HOME").map(|home| PathBuf::from(home).join("homing"));
    let of_home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state/homing"));
    let found = of_service.or_else(of_user).or_else(of_home);
    if found.is_none() {
        let problem =
            Problem::at(place, "the file has no `state_dir`, and there is no home directory");
        problems
            .note(problem.help("say where keys are kept, such as `state_dir: /var/lib/homing`"));
    }
    found
}
