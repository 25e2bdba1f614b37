//! Envoy: lists of backends are files that it watches (EDS by path), and its hot restart brings a new program.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Edge, Site, write};
use crate::{
    change::wanted::{Listed, Wanted},
    failure::Failure,
    kernel::ProcessorTime,
    process::Process,
    topology,
};

/// How long a parent drains, and when it ends, in seconds. Its defaults (600 and 900) are for connections that last;
/// two parents cannot be there at once, so that they would allow one restart in a quarter of an hour.
const DRAIN_S: u32 = 1;
const PARENT_SHUTDOWN_S: u32 = 2;

/// How long a parent may take to end after that.
const END_MAX: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(5);

struct Envoy {
    site: Site,
    /// The newest last; the others end by themselves.
    processes: Vec<Process>,
    /// How often it was started.
    epoch: u32,
    /// How often the lists were written.
    version: u32,
    /// What those used that ended.
    used: ProcessorTime,
}

pub(super) fn start(site: Site, wanted: &Wanted) -> Result<Box<dyn Edge>, Failure> {
    write(&file(&site), &configuration(&site))?;
    let mut envoy =
        Envoy { site, processes: vec![], epoch: 0, version: 0, used: ProcessorTime::default() };
    envoy.apply(wanted)?;
    envoy.launch()?;
    Ok(Box::new(envoy))
}

impl Envoy {
    fn launch(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(&self.site.program);
        command.args(["--concurrency", "1", "--log-level", "warn"]);
        // The processes of one edge find each other by this number.
        command.args(["--base-id", &self.site.listen.port().to_string()]);
        command.args(["--restart-epoch", &self.epoch.to_string()]);
        command.args(["--drain-time-s", &DRAIN_S.to_string(), "--drain-strategy", "immediate"]);
        command.args(["--parent-shutdown-time-s", &PARENT_SHUTDOWN_S.to_string()]);
        command.arg("-c").arg(file(&self.site));
        let command = topology::for_proxy(command, self.site.placement);
        let name = format!("envoy-{}", self.epoch);
        let process = Process::start(&name, command, &self.site.directory, &self.site.guard)?;
        self.processes.push(process);
        self.epoch += 1;
        Ok(())
    }

    /// Waits until only the newest one is left.
    fn await_parents(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + END_MAX;
        while let [parent, _, ..] = self.processes.as_mut_slice() {
            let used = parent.processor_time();
            if parent.check_alive().is_err() {
                self.used += used;
                self.processes.remove(0);
            } else if Instant::now() > deadline {
                return Err(Failure::new(format!("the parent still runs after {END_MAX:?}")));
            }
            sleep(POLL);
        }
        Ok(())
    }
}

impl Edge for Envoy {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        self.version += 1;
        let elsewhere: Vec<Listed> = (1..)
            .zip(wanted.elsewhere())
            .map(|(number, address)| Listed { number, address: *address, weight: 1 })
            .collect();
        for (name, backends) in [("shop", wanted.backends()), ("elsewhere", elsewhere)] {
            write(&list_file(&self.site, name), &list(name, self.version, &backends))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.await_parents()?;
        self.launch()
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        self.processes.last_mut().map_or(Ok(()), Process::check_alive)
    }

    fn processor_time(&self) -> ProcessorTime {
        let mut sum = self.used;
        for process in &self.processes {
            sum += process.processor_time();
        }
        sum
    }

    fn last_words(&self) -> String {
        self.processes.last().map(Process::last_words).unwrap_or_default()
    }
}

fn file(site: &Site) -> PathBuf {
    site.file("envoy.yaml")
}

fn list_file(site: &Site, name: &str) -> PathBuf {
    site.file(&format!("{name}.yaml"))
}

fn address(it: &SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", it.ip(), it.port())
}

/// A list of backends, as EDS has it.
fn list(name: &str, version: u32, backends: &[Listed]) -> String {
    let endpoint = |it: &Listed| {
        let (address, weight) = (address(&it.address), it.weight);
        format!("    - {{ endpoint: {{ address: {address} }}, load_balancing_weight: {weight} }}\n")
    };
    let endpoints: String = backends.iter().map(endpoint).collect();
    format!(
        "version_info: \"{version}\"
resources:
- \"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: {name}
  endpoints:
  - lb_endpoints:
{endpoints}"
    )
}

/// What a dead backend did not answer is tried again elsewhere; without that its clients get 503 until it is known to
/// be dead.
fn configuration(site: &Site) -> String {
    let clusters = ["shop", "elsewhere"].map(|name| cluster(name, site)).concat();
    format!(
        "node: {{ id: edge, cluster: edge }}
static_resources:
  listeners:
  - address: {}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: shop
          route_config:
            virtual_hosts:
            - name: shop
              domains: [\"*\"]
              routes:
              - match: {{ prefix: / }}
                route:
                  cluster: shop
                  retry_policy:
                    retry_on: connect-failure,refused-stream,reset
                    num_retries: 3
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        \"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                    host_selection_retry_max_attempts: 5
          http_filters:
          - name: envoy.filters.http.stateful_session
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession
              session_state:
                name: envoy.http.stateful_session.cookie
                typed_config:
                  \"@type\": type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState
                  cookie: {{ name: route, path: / }}
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
{clusters}",
        address(&site.listen)
    )
}

fn cluster(name: &str, site: &Site) -> String {
    format!(
        "  - name: {name}
    type: EDS
    lb_policy: RANDOM
    connect_timeout: 5s
    eds_cluster_config:
      eds_config:
        resource_api_version: V3
        path_config_source: {{ path: {} }}
    circuit_breakers:
      thresholds: [{{ max_connections: 65536, max_pending_requests: 65536, max_requests: 65536, max_retries: 65536 }}]
    health_checks:
    - timeout: 1s
      interval: 1s
      no_traffic_interval: 1s
      unhealthy_threshold: 3
      healthy_threshold: 2
      http_health_check: {{ path: /healthz }}
",
        list_file(site, name).display()
    )
}
