//! From the tree to the model: one function a section, every problem collected.

mod affinity;
mod app;
mod backends;
mod defaults;
mod health;
mod keys;
mod listeners;
mod pages;
mod routes;
mod slow_start;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use self::defaults::Defaults;
use self::pages::Pages;
use super::fields::{Problems, Toggle};
use super::model::{AccessLog, Config, LogFormat, LogTarget, Server};
use super::problem::{Place, Problem};
use super::scalar::{self, Switch};
use super::tree::Tree;
use super::yaml;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Where the admin listener is unless the file says otherwise.
const ADMIN_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180);

/// Reads the text of a file that stands in `directory`.
pub(super) fn lower(source: &str, directory: &Path) -> Result<Config, Vec<Problem>> {
    let tree = yaml::read(source).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let config = file(&tree, directory, &mut problems);
    match config {
        Some(config) if problems.0.is_empty() => Ok(config),
        Some(_) | None => Err(problems.0),
    }
}

fn file(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<Config> {
    let mut fields = problems.fields(tree, "the file")?;
    let state_dir = match fields.optional("state_dir") {
        Some(tree) => problems.scalar(tree, |text| path(text, directory)),
        None => default_state_dir(fields.place, problems),
    };
    let server = server(fields.optional("server"), problems);
    let admin = admin(fields.optional("admin"), problems);
    let access_log = access_log(fields.optional("access_log"), directory, problems);
    let trusted_proxies = fields.optional("trusted_proxies").and_then(|t| problems.list(t));
    let trusted_proxies = trusted_proxies.unwrap_or(&[]).iter();
    let trusted_proxies =
        trusted_proxies.filter_map(|t| problems.scalar(t, scalar::network)).collect();
    let keys = keys::keys(fields.optional("affinity_keys"), directory, problems);
    let mut pages = Pages::of(directory);
    let defaults = Defaults::read(fields.optional("defaults"), &mut pages, problems);
    let listeners = fields.required("listeners", problems);
    let listeners = listeners.map(|tree| listeners::listeners(tree, admin, problems));
    let apps = fields.required("apps", problems);
    let default_app = fields.optional("default_app");
    let apps = apps.and_then(|tree| app::apps(tree, &defaults, default_app, &mut pages, problems));
    fields.finish(problems);
    let (apps, default_app) = apps?;
    Some(Config {
        state_dir: state_dir?,
        server,
        listeners: listeners?,
        admin,
        access_log,
        trusted_proxies,
        keys,
        apps,
        default_app,
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

fn server(tree: Option<&Tree>, problems: &mut Problems) -> Server {
    let mut server = Server {
        threads: thread::available_parallelism().map_or(1, usize::from),
        grace_period: 30 * SECOND,
        head_timeout: 30 * SECOND,
        keepalive_timeout: 75 * SECOND,
    };
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`server`")) else {
        return server;
    };
    server.threads = problems.number_or(fields.optional("threads"), &(1..=1024), server.threads);
    for (key, value, least) in [
        ("grace_period", &mut server.grace_period, Duration::ZERO),
        ("head_timeout", &mut server.head_timeout, SECOND),
        ("keepalive_timeout", &mut server.keepalive_timeout, SECOND),
    ] {
        *value = problems.duration_or(fields.optional(key), &(least..=DAY), *value);
    }
    fields.finish(problems);
    server
}

fn admin(tree: Option<&Tree>, problems: &mut Problems) -> Option<SocketAddr> {
    let Some(tree) = tree else { return Some(ADMIN_ADDRESS) };
    let toggle = Toggle::of(tree, "admin", &[Switch::On, Switch::Off]);
    let help = format!("such as `admin: {{ address: {ADMIN_ADDRESS} }}`");
    let tree = match problems.noted(toggle.map_err(|problem| problem.help(help)))? {
        Toggle::Off => return None,
        Toggle::On => return Some(ADMIN_ADDRESS),
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`admin`")?;
    let address = fields.required("address", problems);
    let address = address.and_then(|tree| problems.scalar(tree, scalar::admin_address));
    fields.finish(problems);
    address
}

fn access_log(tree: Option<&Tree>, directory: &Path, problems: &mut Problems) -> AccessLog {
    let mut log = AccessLog { format: LogFormat::Json, target: LogTarget::Stdout };
    let Some(tree) = tree else { return log };
    let toggle = Toggle::of(tree, "access_log", &[Switch::Off]);
    let help = "such as `access_log: { format: json }`";
    let tree = match problems.noted(toggle.map_err(|problem| problem.help(help))) {
        Some(Toggle::Off) => return AccessLog { format: LogFormat::Off, ..log },
        Some(Toggle::Section(tree)) => tree,
        Some(Toggle::On) | None => return log,
    };
    let Some(mut fields) = problems.fields(tree, "`access_log`") else { return log };
    let formats =
        [("json", LogFormat::Json), ("heroku", LogFormat::Heroku), ("off", LogFormat::Off)];
    log.format = problems.choice(fields.optional("format"), &formats).unwrap_or(log.format);
    if let Some(tree) = fields.optional("path") {
        let target = problems.scalar(tree, |text| match text {
            "stdout" => Ok(LogTarget::Stdout),
            text => path(text, directory).map(LogTarget::File),
        });
        log.target = target.unwrap_or(log.target);
    }
    fields.finish(problems);
    log
}
