//! The least a Pingora proxy with session affinity can be: what Homing is measured against.
//!
//! One thread, three backends or more, a random pick, a cookie that carries the backend's index in the clear, HTTP
//! health checks, a pool of upstream connections; no configuration, no log, no metrics, no seal. The difference
//! between this and Homing is what Homing costs; the difference between this and others is what Pingora costs.
//!
//! ```text
//! bare [--work-stealing] [--forwarding] LISTEN BACKEND...
//! ```
//!
//! With `--forwarding` it also writes the fields that Homing writes: what is left of the difference is Homing's own.

#![expect(clippy::disallowed_methods, reason = "it has no clock but the system's")]

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    lb::{Backend, LoadBalancer, health_check::HttpHealthCheck, selection::Random},
    modules::http::HttpModules,
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::{Server, configuration::ServerConf},
    services::background::background_service,
    upstreams::peer::HttpPeer,
};

/// The allocator of the `homing` binary: an allocator alone moves the figure by a fifth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COOKIE: &str = "homing-affinity=";
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

struct Bare {
    balancer: Arc<LoadBalancer<Random>>,
    homes: Vec<Home>,
    /// Whether backends are told of the client, and requests have an id.
    is_forwarding: bool,
}

/// A backend and all that a request needs of it, made before the first request.
struct Home {
    backend: Backend,
    peer: HttpPeer,
    cookie: String,
}

#[derive(Default)]
struct Visit {
    /// The index the client's cookie named.
    presented: Option<usize>,
    /// The index the request went to.
    chosen: usize,
    /// The id of the request, if it has one.
    id: String,
}

impl Bare {
    fn is_live(&self, index: usize) -> bool {
        self.homes.get(index).is_some_and(|home| self.balancer.backends().ready(&home.backend))
    }

    /// A random live backend: the first live one from a random place on.
    fn draw(&self) -> Option<usize> {
        let start = rand::random_range(0..self.homes.len());
        (start..self.homes.len()).chain(0..start).find(|index| self.is_live(*index))
    }
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = Visit;

    fn new_ctx(&self) -> Visit {
        Visit::default()
    }

    /// Empty on purpose: the default adds a compression module to every request, even though it is switched off.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(
        &self,
        session: &mut Session,
        visit: &mut Visit,
    ) -> Result<Box<HttpPeer>> {
        visit.presented = index_in(session.get_header_bytes("cookie"));
        visit.chosen = visit
            .presented
            .filter(|index| self.is_live(*index))
            .or_else(|| self.draw())
            .ok_or_else(|| Error::explain(ErrorType::HTTPStatus(503), "no live backend"))?;
        Ok(Box::new(self.homes[visit.chosen].peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        if !self.is_forwarding {
            return Ok(());
        }
        let client = session.client_addr().and_then(|address| address.as_inet());
        let client = client.map(|address| address.ip().to_string()).unwrap_or_default();
        let port = session.server_addr().and_then(|address| address.as_inet());
        let port = port.map(|address| address.port().to_string()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        visit.id = uuid::Uuid::new_v4().to_string();
        request.insert_header("X-Forwarded-For", client)?;
        request.insert_header("X-Forwarded-Proto", "http")?;
        request.insert_header("X-Forwarded-Port", port)?;
        request.insert_header("X-Request-Start", now.as_millis().to_string())?;
        request.insert_header("X-Request-Id", visit.id.as_str())?;
        request.append_header("Via", "1.1 bare")?;
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        if self.is_forwarding {
            response.insert_header("X-Request-Id", visit.id.as_str())?;
        }
        if visit.presented != Some(visit.chosen) {
            response.append_header("set-cookie", self.homes[visit.chosen].cookie.as_str())?;
        }
        Ok(())
    }
}

/// The one digit that follows the cookie's name in a `Cookie` header.
fn index_in(header: &[u8]) -> Option<usize> {
    let start =
        header.windows(COOKIE.len()).position(|window| window == COOKIE.as_bytes())? + COOKIE.len();
    header.get(start)?.is_ascii_digit().then(|| usize::from(header[start] - b'0'))
}

fn home(index: usize, address: &str) -> Result<Home> {
    let socket_address: SocketAddr = address.parse().map_err(|_| {
        Error::explain(
            ErrorType::InternalError,
            format!("expected IP:PORT as a backend, found `{address}`"),
        )
    })?;
    Ok(Home {
        backend: Backend::new(address)?,
        peer: HttpPeer::new(socket_address, false, String::new()),
        cookie: format!("{COOKIE}{index}; Path=/; HttpOnly; SameSite=Lax"),
    })
}

fn balancer(addresses: &[String]) -> Result<LoadBalancer<Random>> {
    let mut balancer = LoadBalancer::try_from_iter(addresses).map_err(|cause| {
        Error::because(ErrorType::InternalError, "cannot resolve the backends", cause)
    })?;
    let mut check = HttpHealthCheck::new("127.0.0.1", false);
    check.req = RequestHeader::build("GET", b"/healthz", None)?;
    check.req.append_header("host", "127.0.0.1")?;
    balancer.set_health_check(Box::new(check));
    balancer.health_check_frequency = Some(HEALTH_INTERVAL);
    Ok(balancer)
}

fn serve(listen: &str, addresses: &[String], switches: &[String]) -> Result<()> {
    let has = |name: &str| switches.iter().any(|switch| switch == name);
    let configuration = ServerConf {
        threads: 1,
        work_stealing: has("--work-stealing"),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let homes = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| home(index, address))
        .collect::<Result<_>>()?;
    let health = background_service("health", balancer(addresses)?);
    let is_forwarding = has("--forwarding");
    let bare = Bare { balancer: health.task(), homes, is_forwarding };

    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, bare);
    proxy.add_tcp(listen);
    server.add_service(health);
    server.add_service(proxy);
    server.run_forever()
}

fn main() -> ExitCode {
    let (switches, places): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|it| it.starts_with("--"));
    let outcome = match places.split_first() {
        Some((listen, addresses)) if !addresses.is_empty() && addresses.len() <= 10 => {
            serve(listen, addresses, &switches)
        }
        _ => Err(Error::explain(
            ErrorType::InternalError,
            "usage: bare [--work-stealing] [--forwarding] LISTEN BACKEND... (1 to 10)",
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bare: {problem}");
            ExitCode::FAILURE
        }
    }
}
