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
mod firsts;
mod health;
mod hsts;
mod keys;
mod known;
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

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::defaults::Defaults;
use self::known::Known;
use self::pages::Pages;
use super::fields::Problems;
use super::model::Config;
use super::plain;
use super::problem::{Place, Problem};
use super::scalar;
use super::tree::Tree;
use super::yaml;
use crate::balancer::shared::Shared;
use crate::balancer::state::AppSpec;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Requests or connections that a limit may allow: more than any machine has ports for.
const COUNT: RangeInclusive<u64> = 1..=10_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the text of a file that stands in `directory`. Apps that are the same in `before` are shared with it.
pub(super) fn lower(
    source: &str,
    directory: &Path,
    before: &[Shared<AppSpec>],
) -> Result<Config, Vec<Problem>> {
    let tree = yaml::read(source).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let config = file(&tree, directory, before, &mut problems);
    match config {
        Some(config) if problems.found.is_empty() => Ok(config),
        Some(_) | None => Err(problems.found),
    }
}

/// Reads the state directory only.
pub(super) fn state_dir(source: &str, directory: &Path) -> Result<PathBuf, Vec<Problem>> {
    let tree = plain::read(&without_apps(source)).map_or_else(|| yaml::read(source), Ok);
    let tree = tree.map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let found = problems.fields(&tree, "the file").and_then(|mut fields| {
        state_dir_of(fields.optional("state_dir"), fields.place, directory, &mut problems)
    });
    found.ok_or(problems.found)
}

/// The text, if it is plain, with empty lines in the place of the section `apps`, which may be 100,000 and says
/// nothing of the rest. Where that is written in another form, it stays.
fn without_apps(source: &str) -> String {
    let mut is_of_apps = false;
    let mut rest = String::new();
    for line in source.split_inclusive('\n') {
        if !line.starts_with([' ', '-', '#', '\t', '\r', '\n']) {
            is_of_apps = line.trim_end() == "apps:";
        }
        rest.push_str(if is_of_apps { "\n" } else { line });
    }
    rest
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

fn file(
    tree: &Tree,
    directory: &Path,
    before: &[Shared<AppSpec>],
    problems: &mut Problems,
) -> Option<Config> {
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
    let known = Known::of(before);
    let defaults = Defaults::read(fields.optional("defaults"), &mut pages, problems);
    let listeners = fields.required("listeners", problems);
    let listeners =
        listeners.map(|tree| listeners::listeners(tree, admin.as_ref(), directory, problems));
    let acme_tree = fields.optional("acme");
    let acme = acme::acme(acme_tree, directory, problems);
    let apps = fields.required("apps", problems);
    let default_app = fields.optional("default_app");
    let apps =
        apps.and_then(|tree| app::apps(tree, &defaults, default_app, &known, &mut pages, problems));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_found_wherever_apps_stand_and_however() {
        for file in [
            "state_dir: /s\napps:\n- name: a\n# state_dir: /x\n  state_dir: /y\n",
            "apps:\n  - name: a\n\n  - name: \"b\nstate_dir: /s\n",
            "apps: # all\n- { name: a }\nstate_dir: /s\n",
            "apps: &all\n- &dir /s\nstate_dir: *dir\n",
            "apps:\n- &dir /s\nstate_dir: *dir\n",
            "server: &dir /x\napps:\n- &dir /s\nstate_dir: *dir\n",
            "{\napps:\n [], state_dir: /s,\nserver: {}\n}",
            "{ apps: [], state_dir: /s }",
        ] {
            let found = state_dir(file, Path::new("/etc")).unwrap();
            assert_eq!(found, Path::new("/s"), "{file}");
        }
    }

    #[test]
    fn a_mistake_in_the_state_directory_is_told_with_its_line() {
        let problems = state_dir("apps:\n- a\n- b\n\nstate_dir: []\n", Path::new("")).unwrap_err();
        assert_eq!(problems[0].place().line, 5);
    }
}
