//! The real binary on real sockets: loopback, port 0, waiting on conditions.
//!
//! One page a behaviour; `harness` holds what they share.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

mod harness;

mod access_log;
mod acme;
mod admin;
mod affinity;
mod api;
mod app_word;
mod backends_h2;
mod backends_tls;
mod bad_cookies;
mod both_ways;
mod cli;
mod connections;
mod cross_site;
mod edges;
mod failures;
mod first_visit;
mod forwarding;
mod grpc_backends;
mod health;
mod http2;
mod identify;
mod keys;
mod killed;
mod ladder;
mod migration;
mod misdirected;
mod moved_from;
mod operate;
mod outliers;
mod overload;
mod pages;
mod panic;
mod plan;
mod proxy_protocol;
mod proxying;
mod rate_limit;
mod rebalance;
mod redirect;
mod reload;
mod reload_settings;
mod restart;
mod restart_failures;
mod retries;
mod routing;
mod service;
mod slow_clients;
mod slow_start;
mod start_on;
mod state_directory;
mod stopping;
mod tls;
mod tls_clients;
mod tls_files;
mod tls_tickets;
mod tracing;
mod upgrades;
mod validation;
