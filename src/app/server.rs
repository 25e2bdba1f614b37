//! Our model to Pingora's: its configuration, its services, its start and its stop.

use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::listeners::{L4BufferSettings, ListenerConfig, Listeners};
use pingora::server::configuration::ServerConf;
use pingora::server::{
    ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service as Listening;
use pingora::services::{Service, ServiceWithDependents};
use tokio::sync::{Mutex, Notify, watch};

use super::StartError;
use super::errands::Errands;
use super::keeper::Keeper;
use super::listen::{Bound, Socket, hand_over};
use super::operator::Operator;
use super::resources::kept;
use super::serving::Serving;
use crate::admin::{Admin, Public};
use crate::balancer::app::seen::SEEN_WINDOW;
use crate::balancer::app::view::TRIES_MAX;
use crate::config::Config;
use crate::config::model::Server as Settings;
use crate::health::Health;
use crate::proxy::Proxy;
use crate::proxy::connection::WATCH_INTERVAL;
use crate::proxy::edge::Drain;

/// How often it is looked whether the process runs out of memory or room for connections.
const WEIGH_INTERVAL: Duration = Duration::from_millis(250);

/// How often clients are forgotten that ask no more.
const PRUNE_INTERVAL: Duration = Duration::from_secs(2);

/// Pingora sleeps through its own grace period; ours, a day at most, ends the process before.
const GRACE_PERIOD: Duration = Duration::from_secs(2 * 86_400);

/// A service that runs beside ours.
pub type ExtraService = Box<dyn ServiceWithDependents>;

/// How much is read ahead of what reads from a client, in bytes. In the clear, requests are read into the buffers that
/// they are parsed in. TLS reads in small pieces: a whole record (RFC 8446 §5.2) makes one system call of them. A
/// listener that gets TLS by a reload does without.
fn read_buffer(is_encrypted: bool) -> usize {
    if is_encrypted { 5 + (1 << 14) + 256 } else { 0 }
}

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
    let begin = watch::Sender::new(true).subscribe();
    Ok(Box::new(OnSockets { service, fds: hand_over([socket]), begin, end: None }))
}

/// The writer, in a thread of its own: what it takes to apply a configuration of 100,000 apps, no deadline, probe or
/// command waits for.
pub(super) struct Keep {
    pub(super) keeper: Mutex<Keeper>,
    /// Whether this or the other tasks of the kind ended, which they never should.
    pub(super) ended: Arc<AtomicBool>,
}

#[async_trait]
impl BackgroundService for Keep {
    // Runs on while the process drains, as the tasks of `Control` do.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let _ended = OnDrop(Arc::clone(&self.ended));
        self.keeper.lock().await.run().await;
    }
}

/// The tasks that serve no request, beside the writer: the operator, the probers, the watch over deadlines.
pub(super) struct Control {
    pub(super) operator: Mutex<Operator>,
    pub(super) errands: Mutex<Errands>,
    pub(super) health: Health,
    pub(super) serving: Arc<Serving>,
    /// Whether these tasks ended, which they never should.
    pub(super) ended: Arc<AtomicBool>,
}

#[async_trait]
impl BackgroundService for Control {
    // Runs on while the process drains: requests that still run need it.
    async fn start(&self, _shutdown: ShutdownWatch) {
        // Says so also when one of them panics: a process without them is to be replaced.
        let _ended = OnDrop(Arc::clone(&self.ended));
        let watch = async {
            loop {
                tokio::time::sleep(WATCH_INTERVAL).await;
                self.serving.clock.adjust();
                self.serving.connections.watch(self.serving.clock.monotonic());
            }
        };
        let weigh = async {
            loop {
                tokio::time::sleep(WEIGH_INTERVAL).await;
                self.serving.weigh();
            }
        };
        let prune = async {
            loop {
                tokio::time::sleep(PRUNE_INTERVAL).await;
                self.serving.prune_rates();
            }
        };
        let rotate = async {
            loop {
                tokio::time::sleep(SEEN_WINDOW).await;
                let snapshot = Arc::clone(&self.serving.published.load());
                let backends = snapshot.apps.iter().flat_map(|view| &view.app.backends);
                backends.for_each(|backend| backend.live.rotate_seen());
            }
        };
        let operate = async { self.operator.lock().await.run().await };
        let errands = async { self.errands.lock().await.run().await };
        // Nobody is assigned anywhere any more when all is quiet: the backends need not be asked.
        let probe = async {
            tokio::select! {
                () = self.health.run() => {}
                () = self.serving.drain.is_quiet() => {}
            }
        };
        let fetch = self.serving.pages.run();
        let collect = self.serving.collector.run();
        tokio::join!(operate, errands, probe, watch, weigh, prune, rotate, fetch, collect);
    }
}

/// Gets certificates from an ACME server, in a thread of its own: many files are read and written there, for which
/// neither probes nor deadlines wait.
struct Certify {
    serving: Arc<Serving>,
    ended: Arc<AtomicBool>,
}

#[async_trait]
impl BackgroundService for Certify {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let _ended = OnDrop(Arc::clone(&self.ended));
        // Who is replaced leaves it to the successor, whom the server reaches with its challenges.
        tokio::select! {
            () = self.serving.acme.run(self.serving.gates.clients()) => {}
            () = self.serving.drain.begins() => {}
        }
        std::future::pending().await
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
        config: &Config,
        bound: Bound,
        proxy: Proxy,
        admin: Arc<Admin>,
        keep: Keep,
        control: Control,
        extra: Vec<ExtraService>,
    ) -> Result<Self, StartError> {
        let mut server = Server::new_with_opt_and_conf(
            None,
            configuration(&config.server, control.serving.descriptors)?,
        );
        server.bootstrap();
        let conf = Arc::clone(&server.configuration);
        let serving = Arc::clone(&control.serving);
        let drain: Arc<dyn Drain> = Arc::clone(&serving.drain) as _;
        let (addresses, admin_address) = (bound.addresses().collect::<Vec<_>>(), bound.admin());
        serving.listeners.open(&config.listeners, &addresses);
        let (connections, spoken) = (&serving.connections, &serving.listeners);
        let edge = proxy.edge(&conf, Arc::clone(connections), Arc::clone(spoken), drain);

        let mut listeners = Listeners::new();
        for (listener, address) in config.listeners.iter().zip(addresses) {
            let buffer = L4BufferSettings::default().read(read_buffer(listener.tls.is_some()));
            listeners.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffer));
        }
        if let Some(path) = bound.own_endpoint() {
            listeners.add_uds(path, Some(Permissions::from_mode(0o600)));
        }
        let fds = bound.into_fds();
        let service = Listening::with_listeners("homing".into(), listeners, edge);
        let begin = serving.gates.clients();
        server.add_service(OnSockets { service, fds: Arc::clone(&fds), begin, end: None });
        if let Some(address) = admin_address {
            let listeners = Listeners::tcp(&address.to_string());
            let service = Listening::with_listeners("admin".into(), listeners, Public(admin));
            let (begin, end) = serving.gates.admin();
            // A stop does not end it: it tells of the process until the last moment.
            let mut service = OnSockets { service, fds, begin, end: Some(end) };
            service.service.threads = Some(1);
            server.add_service(service);
        }
        let certify = Certify { serving, ended: Arc::clone(&control.ended) };
        server.add_service(background_service("keeper", keep));
        server.add_service(background_service("control", control));
        server.add_service(background_service("certificates", certify));
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
    /// True from when it may accept.
    begin: watch::Receiver<bool>,
    /// True from when it may not accept any more; `None`: from when the process stops.
    end: Option<watch::Receiver<bool>>,
}

#[async_trait]
impl<S: Service> Service for OnSockets<S> {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let end = self.end.clone().unwrap_or(shutdown);
        let mut ended = end.clone();
        let may_accept = tokio::select! {
            begun = self.begin.wait_for(|begun| *begun) => begun.is_ok(),
            _ended = ended.wait_for(|ended| *ended) => false,
        };
        if may_accept {
            let fds = Some(Arc::clone(&self.fds));
            self.service.start_service(fds, end, listeners_per_fd).await;
        }
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
fn configuration(settings: &Settings, descriptors: u64) -> Result<ServerConf, StartError> {
    let document = serde_json::json!({
        "version": 1,
        "threads": settings.threads,
        // One runtime a thread: measured 2 us of processor time a request less than one for all.
        "work_stealing": false,
        "max_retries": TRIES_MAX,
        "upstream_keepalive_pool_size": kept(descriptors, settings.threads),
        "grace_period_seconds": GRACE_PERIOD.as_secs(),
        "graceful_shutdown_timeout_seconds": 1,
    });
    let refused = |error: String| StartError::Server(error);
    let text = serde_yaml::to_string(&document).map_err(|error| refused(error.to_string()))?;
    ServerConf::from_yaml(&text).map_err(|error| refused(error.to_string()))
}
