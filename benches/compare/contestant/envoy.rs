//! Envoy with `stateful_session`, whose cookie carries the backend's address.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, HOST, Setup, app_host},
};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::given_program("envoy")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let file = site.directory.join("envoy.yaml");
    fs::write(&file, configuration(site)).context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(&site.program);
    command
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn", "-c"])
        .arg(file);
    Ok(command)
}

fn configuration(site: &Site) -> String {
    let Site { listen, secure_listen, certificate, .. } = site;
    let address = |it: &SocketAddr| {
        format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", it.ip(), it.port())
    };
    let endpoints: String = site
        .backends
        .iter()
        .map(|it| format!("          - endpoint: {{ address: {} }}\n", address(it)))
        .collect();
    let manager = manager(site);
    let (checks, secure) = match site.setup {
        Setup::Apps => ("", String::new()),
        Setup::Shop => (
            "      health_checks:
        - timeout: 1s
          interval: 2s
          unhealthy_threshold: 3
          healthy_threshold: 1
          http_health_check: { path: /healthz }
",
            format!(
                "    - address: {}
      filter_chains:
        - transport_socket:
            name: tls
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
                tls_certificates:
                  - {{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}
{manager}",
                address(secure_listen),
                certificate.chain.display(),
                certificate.key.display(),
            ),
        ),
    };
    format!(
        "static_resources:
  listeners:
    - address: {}
      filter_chains:
        -
{manager}{secure}  clusters:
    - name: shop
      type: STATIC
      lb_policy: RANDOM
      connect_timeout: 5s
      circuit_breakers:
        thresholds: [{{ max_connections: 65536, max_pending_requests: 65536, max_requests: 65536 }}]
{checks}      load_assignment:
        cluster_name: shop
        endpoints:
        - lb_endpoints:
{endpoints}",
        address(listen),
    )
}

/// The HTTP part of both listeners, which fits below a filter chain.
fn manager(site: &Site) -> String {
    let hosts: String = match site.setup {
        Setup::Shop => virtual_host(0, HOST),
        Setup::Apps => (0..APPS).map(|it| virtual_host(it, &app_host(it))).collect(),
    };
    format!(
        "          filters:
            - name: http
              typed_config:
                \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: shop
                stream_idle_timeout: 0s
                upgrade_configs: [{{ upgrade_type: websocket }}]
                route_config:
                  virtual_hosts:
{hosts}                http_filters:
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
"
    )
}

fn virtual_host(number: usize, host: &str) -> String {
    format!(
        "                    - {{ name: app-{number}, domains: [\"{host}\"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: shop, timeout: 0s }} }}] }}\n"
    )
}
