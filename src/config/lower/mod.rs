//! From the tree to the model: one function a section, every problem collected.

mod affinity;
mod app;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::fields::Problems;
use super::model::{AccessLog, Config, Keys, Listener, LogFormat, LogTarget, Server};
use super::problem::{Place, Problem};
use super::scalar;
use super::secret;
use super::tree::{Tree, Value};
use crate::balancer::affinity::keyring::Keyring;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Most listeners. Each is a socket and an accept loop.
const LISTENERS_MAX: usize = 256;

/// Where the admin listener is unless the file says otherwise.
const ADMIN_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180);

/// Reads the text of a file that stands in `directory`.
pub(super) fn lower(source: &str, directory: &Path) -> Result<Config, Vec<Problem>> {
    let tree = Tree::parse(source).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let config = file(&tree, directory, &mut problems);
    match config {
        Some(config) if problems.0.is_empty() => Ok(config),
        Some(_) | None => Err(problems.0),
    }
}

fn file(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<Config> {
    let mut fields = problems.fields(tree, "the file");
    let state_dir = match fields.optional("state_dir") {
        Some(tree) => problems.scalar(tree, |text| path(text, directory)),
        None => default_state_dir(fields.place, problems),
    };
    let server = server(fields.optional("server"), problems);
    let admin = admin(fields.optional("admin"), problems);
    let access_log = access_log(fields.optional("access_log"), directory, problems);
    let trusted_proxies = fields.optional("trusted_proxies").map_or(&[][..], |t| problems.list(t));
    let trusted_proxies =
        trusted_proxies.iter().filter_map(|t| problems.scalar(t, scalar::network)).collect();
    let keys = keys(fields.optional("affinity_keys"), directory, problems);
    let defaults = fields.optional("defaults");
    if let Some(defaults) = defaults {
        app::check_defaults(defaults, problems);
    }
    let listeners = fields.required("listeners", problems);
    let listeners = listeners.map_or_else(Vec::new, |tree| listeners_of(tree, admin, problems));
    let apps = fields.required("apps", problems);
    let default_app = fields.optional("default_app");
    let (apps, default_app) = match apps {
        Some(tree) => app::apps(tree, defaults, default_app, problems),
        None => (Vec::new(), None),
    };
    fields.finish(problems);
    Some(Config {
        state_dir: state_dir?,
        server,
        listeners,
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

/// The state directory of the service (systemd), else one of the user's (XDG Base Directory).
fn default_state_dir(place: Place, problems: &mut Problems) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let of_service = variable("STATE_DIRECTORY").map(PathBuf::from);
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
    let Some(tree) = tree else { return server };
    let mut fields = problems.fields(tree, "`server`");
    if let Some(threads) = fields.optional("threads") {
        server.threads = problems.number(threads, 1, 1024).unwrap_or(1);
    }
    for (key, value, least) in [
        ("grace_period", &mut server.grace_period, Duration::ZERO),
        ("head_timeout", &mut server.head_timeout, SECOND),
        ("keepalive_timeout", &mut server.keepalive_timeout, SECOND),
    ] {
        let found = fields.optional(key).and_then(|tree| problems.duration(tree, least, DAY));
        *value = found.unwrap_or(*value);
    }
    fields.finish(problems);
    server
}

fn admin(tree: Option<&Tree>, problems: &mut Problems) -> Option<SocketAddr> {
    let Some(tree) = tree else { return Some(ADMIN_ADDRESS) };
    if let Value::Scalar(_) = &tree.value {
        let word = problems.choice(tree, &[("off", None), ("on", Some(ADMIN_ADDRESS))]);
        return word.flatten();
    }
    let mut fields = problems.fields(tree, "`admin`");
    let address = fields.required("address", problems);
    let address = address.and_then(|tree| problems.scalar(tree, scalar::listen_address));
    fields.finish(problems);
    address
}

fn access_log(tree: Option<&Tree>, directory: &Path, problems: &mut Problems) -> AccessLog {
    let mut log = AccessLog { format: LogFormat::Json, target: LogTarget::Stdout };
    let Some(tree) = tree else { return log };
    let mut fields = problems.fields(tree, "`access_log`");
    if let Some(format) = fields.optional("format") {
        let formats =
            [("json", LogFormat::Json), ("heroku", LogFormat::Heroku), ("off", LogFormat::Off)];
        log.format = problems.choice(format, &formats).unwrap_or(log.format);
    }
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

fn keys(tree: Option<&Tree>, directory: &Path, problems: &mut Problems) -> Keys {
    let Some(tree) = tree else { return Keys::Generated };
    let mut keys = Vec::new();
    let items = problems.list(tree);
    for item in items {
        let mut fields = problems.fields(item, "a key");
        let key = match (fields.optional("file"), fields.optional("environment")) {
            (Some(tree), None) => problems
                .scalar(tree, |text| path(text, directory))
                .map(|path| secret::from_file(&path)),
            (None, Some(tree)) => problems
                .scalar(tree, |text| {
                    if text.is_empty() { Err("expected a name") } else { Ok(text.to_owned()) }
                })
                .map(|name| secret::from_environment(&name)),
            (Some(_), Some(_)) | (None, None) => {
                let problem = Problem::at(item.place, "a key has either `file` or `environment`");
                problems.note(problem.help("such as `- file: keys/2026-11`"));
                None
            }
        };
        match key {
            Some(Ok(key)) => keys.push(key),
            Some(Err(error)) => {
                problems.note(Problem::at(item.place, error.to_string()).help(error.help()));
            }
            None => {}
        }
        fields.finish(problems);
    }
    // A ring with a hole would seal with another key than the operator meant: that was noted.
    if keys.len() < items.len() {
        return Keys::Generated;
    }
    match Keyring::new(keys) {
        Ok(keyring) => Keys::Listed(keyring),
        Err(error) => {
            let help = "list at least one key, or leave `affinity_keys` out to have one made";
            problems.note(Problem::at(tree.place, error.to_string()).help(help));
            Keys::Generated
        }
    }
}

fn listeners_of(tree: &Tree, admin: Option<SocketAddr>, problems: &mut Problems) -> Vec<Listener> {
    let items = problems.list(tree);
    if let (Value::List(_), true) = (&tree.value, items.is_empty() || items.len() > LISTENERS_MAX) {
        let text = format!("expected 1 to {LISTENERS_MAX} listeners, found {}", items.len());
        problems.note(Problem::at(tree.place, text));
    }
    let mut taken: HashMap<SocketAddr, usize> = HashMap::new();
    let mut listeners = Vec::new();
    for item in items {
        let mut fields = problems.fields(item, "a listener");
        let address = fields.required("address", problems);
        let parsed = address.and_then(|tree| problems.scalar(tree, scalar::listen_address));
        fields.finish(problems);
        let (Some(tree), Some(address)) = (address, parsed) else { continue };
        let first = *taken.entry(address).or_insert(tree.place.line);
        // Port 0 takes any free port: two of them are two listeners.
        if address.port() != 0 && first != tree.place.line {
            let text = format!("`{address}` is listened on twice; first on line {first}");
            problems.note(Problem::at(tree.place, text));
        }
        if address.port() != 0 && admin == Some(address) {
            let problem = Problem::at(tree.place, format!("`{address}` is the admin listener's"));
            problems
                .note(problem.help("give `admin` another address, or switch it off: `admin: off`"));
        }
        listeners.push(Listener { address });
    }
    listeners
}

/// Reads a duration of a section, or leaves the default.
pub(super) fn duration_or(
    tree: Option<&Tree>,
    (least, most): (Duration, Duration),
    default: Duration,
    problems: &mut Problems,
) -> Duration {
    tree.and_then(|tree| problems.duration(tree, least, most)).unwrap_or(default)
}
