//! Our model to Pingora's: its configuration, its services, its start and its stop.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::listeners::Listeners;
use pingora::server::configuration::ServerConf;
use pingora::server::{
    ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service as Listening;
use pingora::services::{Service, ServiceWithDependents};
use tokio::sync::{Mutex, Notify, watch};

use super::StartError;
use super::drain::Draining;
use super::keeper::Keeper;
use super::listen::{Bound, Socket, hand_over};
use crate::admin::Admin;
use crate::balancer::app::seen::SEEN_WINDOW;
use crate::balancer::app::view::TRIES_MAX;
use crate::config::model::Server as Settings;
use crate::health::Health;
use crate::proxy::Proxy;
use crate::proxy::connection::{Connections, WATCH_INTERVAL};
use crate::shared::Clock;

/// Unused connections to backends that are kept, for each thread. Each is a descriptor here and there.
const UPSTREAM_KEEPALIVE: usize = 1024;

/// Pingora sleeps through its own grace period; ours ends the process before.
const BEYOND_GRACE: Duration = Duration::from_secs(60);

/// A service that runs beside ours.
pub type ExtraService = Box<dyn ServiceWithDependents>;

/// Makes a service of an application and a socket that is bound.
///
/// # Errors
/// When the socket is none any more.
pub fn extra_service<A>(name: String, app: A, listener: TcpListener) -> io::Result<ExtraService>
where
    A: ServerApp + Send + Sync + 'static,
{
    let socket = Socket::new(listener)?;
    let listeners = Listeners::tcp(&socket.address.to_string());
    let mut service = Listening::with_listeners(name, listeners, app);
    service.threads = Some(1);
    Ok(Box::new(OnSockets { service, fds: hand_over([socket]), life: Life::Process }))
}

/// The tasks that serve no request: the writer, the probers, the watch over deadlines, the turn of the
/// windows in which clients are counted.
pub(super) struct Control {
    pub(super) keeper: Mutex<Keeper>,
    pub(super) health: Health,
    pub(super) connections: Arc<Connections>,
    pub(super) clock: Clock,
}

#[async_trait]
impl BackgroundService for Control {
    // Runs on while the process drains: requests that still run need it.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let watch = async {
            loop {
                tokio::time::sleep(WATCH_INTERVAL).await;
                self.clock.adjust();
                self.connections.watch(self.clock.monotonic());
            }
        };
        let rotate = async {
            loop {
                tokio::time::sleep(SEEN_WINDOW).await;
                let snapshot = self.health.published.load();
                let backends = snapshot.apps.iter().flat_map(|view| &view.app.backends);
                backends.for_each(|backend| backend.live.rotate_seen());
            }
        };
        let keep = async { self.keeper.lock().await.run().await };
        tokio::join!(keep, self.health.run(), watch, rotate);
    }
}

/// A server that runs in a thread of its own.
pub(super) struct Running {
    stop: Arc<Notify>,
    ended: Arc<AtomicBool>,
}

impl Running {
    /// Starts Pingora on sockets that are bound.
    pub(super) fn start(
        settings: &Settings,
        bound: Bound,
        proxy: Proxy,
        admin: Admin,
        control: Control,
        drain: Arc<Draining>,
        extra: Vec<ExtraService>,
    ) -> Result<Self, StartError> {
        let mut server = Server::new_with_opt_and_conf(None, configuration(settings)?);
        server.bootstrap();
        let conf = Arc::clone(&server.configuration);
        let edge = proxy.edge(&conf, Arc::clone(&control.connections), drain);
        let (addresses, admin_address) = (bound.addresses().collect::<Vec<_>>(), bound.admin());
        let fds = bound.into_fds();

        let mut listeners = Listeners::new();
        for address in addresses {
            listeners.add_tcp(&address.to_string());
        }
        let service = Listening::with_listeners("homing".into(), listeners, edge);
        server.add_service(OnSockets { service, fds: Arc::clone(&fds), life: Life::Process });
        if let Some(address) = admin_address {
            let listeners = Listeners::tcp(&address.to_string());
            let mut service = Listening::with_listeners("admin".into(), listeners, admin);
            service.threads = Some(1);
            let (never, _) = watch::channel(false);
            server.add_service(OnSockets { service, fds, life: Life::Beyond(never) });
        }
        server.add_service(background_service("control", control));
        for service in extra {
            server.add_boxed_service(service);
        }
        Self::run(server)
    }

    fn run(server: Server) -> Result<Self, StartError> {
        let (stop, ended) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (signal, own) = (Stop(Arc::clone(&stop)), Arc::clone(&ended));
        let run = move || {
            // Says so also when Pingora panics.
            let _ended = OnDrop(own);
            server.run(RunArgs { shutdown_signal: Box::new(signal) });
        };
        thread::Builder::new().name("pingora".into()).spawn(run).map_err(StartError::System)?;
        Ok(Self { stop, ended })
    }

    /// Tells the accept loops to end.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Whether the server is no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tells Pingora to stop when we say so; signals are ours.
struct Stop(Arc<Notify>);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        self.0.notified().await;
        ShutdownSignal::GracefulTerminate
    }
}

/// A service on sockets that were bound before.
struct OnSockets<S> {
    service: S,
    fds: ListenFds,
    life: Life,
}

/// When a service stops accepting.
enum Life {
    /// With the process: the admin listener tells of it until the last moment.
    Beyond(watch::Sender<bool>),
    /// When stopping begins.
    Process,
}

#[async_trait]
impl<S: Service> Service for OnSockets<S> {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let shutdown = match &self.life {
            Life::Beyond(never) => never.subscribe(),
            Life::Process => shutdown,
        };
        self.service.start_service(Some(Arc::clone(&self.fds)), shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}

/// The document that Pingora reads its settings from.
fn configuration(settings: &Settings) -> Result<ServerConf, StartError> {
    let grace_period = settings.grace_period + BEYOND_GRACE;
    let document = serde_json::json!({
        "version": 1,
        "threads": settings.threads,
        // One runtime a thread: measured 2 us of processor time a request less than one for all.
        "work_stealing": false,
        "max_retries": TRIES_MAX,
        "upstream_keepalive_pool_size": UPSTREAM_KEEPALIVE,
        "grace_period_seconds": grace_period.as_secs(),
        "graceful_shutdown_timeout_seconds": 1,
    });
    let refused = |error: String| StartError::Server(error);
    let text = serde_yaml::to_string(&document).map_err(|error| refused(error.to_string()))?;
    ServerConf::from_yaml(&text).map_err(|error| refused(error.to_string()))
}
