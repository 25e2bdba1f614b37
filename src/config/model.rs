//! What the program uses: typed, defaults applied, no invalid combination.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::balancer::affinity::keyring::Keyring;
use crate::balancer::name::AppName;
use crate::balancer::state::{AppSpec, Spec};

/// A configuration that was accepted.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Homing keeps what must survive it.
    pub state_dir: PathBuf,
    /// The process.
    pub server: Server,
    /// Where clients are accepted.
    pub listeners: Vec<Listener>,
    /// Where the admin listener is; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// How requests are logged.
    pub access_log: AccessLog,
    /// Proxies whose word on `X-Forwarded-*` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The keys.
    pub keys: Keys,
    /// The apps.
    pub apps: Vec<AppSpec>,
    /// The app for hosts that no domain names.
    pub default_app: Option<AppName>,
}

impl Config {
    /// What the balancer is to do, with the keys that were listed or made.
    pub fn spec(self, keyring: Keyring) -> Spec {
        Spec { apps: self.apps, default_app: self.default_app, keyring }
    }
}

/// The process.
#[derive(Clone, Debug)]
pub struct Server {
    /// Threads that serve requests.
    pub threads: usize,
    /// How long requests may take to finish when Homing stops.
    pub grace_period: Duration,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// How long an unused client connection is kept.
    pub keepalive_timeout: Duration,
}

/// Where clients are accepted.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address; port 0 takes any.
    pub address: SocketAddr,
}

/// How requests are logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// The form of a line.
    pub format: LogFormat,
    /// Where it goes.
    pub target: LogTarget,
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// The line of the Heroku router, followed by our own fields.
    Heroku,
    /// One JSON object.
    Json,
    /// No line.
    Off,
}

/// Where the access log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// To a file, opened again on SIGUSR1.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// The keys that seal and open.
#[derive(Clone, Debug)]
pub enum Keys {
    /// One key, made on the first start in the state directory.
    Generated,
    /// Those the operator listed.
    Listed(Keyring),
}
