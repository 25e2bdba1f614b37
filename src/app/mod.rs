//! Wiring: from a configuration to a process that serves, and to its end.

mod drain;
mod error;
mod keeper;
mod keys;
mod listen;
mod server;
mod signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use self::drain::Draining;
pub use self::error::StartError;
use self::keeper::Keeper;
pub use self::keys::{Missing, keyring};
pub use self::listen::Bound;
use self::server::{Control, Running};
pub use self::server::{ExtraService, extra_service};
use self::signals::{Signal, Signals};
use crate::admin::Admin;
use crate::balancer::app::live::AppLive;
use crate::config::Config;
use crate::health::Health;
use crate::proxy::Proxy;
use crate::proxy::connection::Connections;
use crate::shared::{Clock, Events, Published};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, Sources};

/// How long the main thread waits for a signal before it looks whether the server still runs.
const LOOK: Duration = Duration::from_secs(1);

/// The same while stopping, when the end of the last connection ends the process.
const LOOK_STOPPING: Duration = Duration::from_millis(20);

/// A Homing whose addresses are bound and whose files are open: what can fail has not.
pub struct Edge {
    config: Config,
    bound: Bound,
    signals: Signals,
    access_log: Arc<AccessLog>,
    extra: Vec<ExtraService>,
}

impl Edge {
    /// Binds every address and opens every file.
    ///
    /// # Errors
    /// When an address is taken, a file cannot be opened, or a signal cannot be caught.
    pub fn prepare(config: Config) -> Result<Self, StartError> {
        let signals = Signals::catch().map_err(StartError::System)?;
        let bound = Bound::bind(&config)?;
        let access_log = AccessLog::open(&config.access_log);
        let access_log = access_log
            .map_err(|error| StartError::AccessLog(config.access_log.target.clone(), error))?;
        Ok(Self { config, bound, signals, access_log, extra: Vec::new() })
    }

    /// Runs another service beside.
    pub fn add_service(&mut self, service: ExtraService) {
        self.extra.push(service);
    }

    /// The addresses, as they were bound.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// When the keys cannot be had, or the server ends by itself.
    pub fn run(self) -> Result<(), StartError> {
        let Self { config, bound, signals, access_log, extra } = self;
        let keyring = keyring(&config, Missing::Make)?;
        let clock = Clock::start();
        let published = Arc::new(Published::default());
        let unrouted = Arc::new(AppLive::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let server = config.server.clone();
        let connections = Arc::new(Connections::new(server.head_timeout, server.keepalive_timeout));
        let drain = Draining::new(Arc::clone(&connections), clock, server.grace_period);
        let (events, received) = Events::channel();

        let proxy = Proxy {
            published: Arc::clone(&published),
            events: events.clone(),
            clock,
            access_log: Arc::clone(&access_log),
            trusted_proxies: config.trusted_proxies.clone().into(),
            unrouted: Arc::clone(&unrouted),
        };
        let counted = Arc::clone(&connections);
        let sources = Sources {
            published: Arc::clone(&published),
            unrouted,
            connections: Box::new(move || (counted.open() as u64, counted.accepted())),
            access_log: Arc::clone(&access_log),
        };
        let admin = Admin {
            published: Arc::clone(&published),
            metrics: Metrics::new(sources).map_err(StartError::Metrics)?,
            stopping: Arc::clone(&stopping),
            was_ready: AtomicBool::new(false),
        };
        let mut keeper = Keeper::new(received, Arc::clone(&published), clock);
        keeper.configure(config.spec(keyring));
        let control = Control {
            keeper: Mutex::new(keeper),
            health: Health { published, events, clock },
            connections: Arc::clone(&connections),
            clock,
        };

        bound.announce();
        let running =
            Running::start(&server, bound, proxy, admin, control, Arc::clone(&drain), extra)?;
        let result = serve(&signals, &running, &access_log, &drain, &stopping);
        access_log.close();
        result
    }
}

/// Answers signals until one of them, or the end of the server, ends the process.
fn serve(
    signals: &Signals,
    running: &Running,
    access_log: &AccessLog,
    drain: &Draining,
    stopping: &AtomicBool,
) -> Result<(), StartError> {
    loop {
        let look = if stopping.load(Ordering::Relaxed) { LOOK_STOPPING } else { LOOK };
        match signals.next(look) {
            Some(Signal::Interrupt) => {
                tracing::info!("interrupted: ending at once");
                return Ok(());
            }
            Some(Signal::Reopen) => access_log.reopen(),
            Some(Signal::Terminate) if !stopping.swap(true, Ordering::Relaxed) => {
                tracing::info!("stopping: no new connections, running requests finish");
                drain.begin();
                running.stop();
            }
            Some(Signal::Terminate) => {}
            Some(Signal::Other(name)) => {
                tracing::warn!("{name} means nothing to this version and is ignored");
            }
            None => {}
        }
        if stopping.load(Ordering::Relaxed) {
            if let Some(left) = drain.over() {
                tracing::info!(connections_cut = left, "stopped");
                return Ok(());
            }
        } else if running.has_ended() {
            return Err(StartError::Ended);
        }
    }
}
