//! Homing, an edge HTTP load balancer on Pingora that brings every client home.
//!
//! The map, in reading order; ARCHITECTURE.md says why. The arrows point at what a module may name:
//! `main → cli → app → {acme, health, admin, proxy} → telemetry → config → tls → balancer → wire`,
//! with [`shared`] and [`issued`] beside.
//! `tests/tidy.rs` holds them.
//!
//! * [`wire`]: what clients may send, byte by byte; pure.
//! * [`balancer`]: what Homing decides; pure. Begin with [`balancer::assign`].
//! * [`tls`]: certificates and whom they are shown, client certificates, session tickets; no sockets, no files.
//! * [`config`]: from the text of the file to a typed model, every mistake at once.
//! * [`shared`]: the clock, the snapshot to read, the channel to write.
//! * [`outbound`]: what Homing asks of others on its own account.
//! * [`proxy`]: the only `impl ProxyHttp`, and the two layers around it.
//! * [`acme`]: certificates from an ACME server; [`issued`]: those it has, for handshakes.
//! * [`health`]: probers, on Pingora's health checks.
//! * [`admin`]: metrics, readiness and status over HTTP.
//! * [`telemetry`]: metrics, access log, log.
//! * [`app`]: wiring, start and stop.
//! * [`cli`]: the commands; [`demo`]: the backends of one of them.

pub mod acme;
pub mod admin;
pub mod app;
pub mod balancer;
pub mod cli;
pub mod config;
pub mod demo;
pub mod health;
pub mod issued;
pub mod outbound;
pub mod proxy;
pub mod shared;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod wire;
