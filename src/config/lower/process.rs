//! The `server` and `access_log` sections.

use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::model::{AccessLog, LogFormat, LogTarget, Server};
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::{COUNT, DAY, SECOND, path};
use crate::wire::head::{BYTES_MAX, FIELDS_MAX, HeadLimits, LINE_MAX};

/// Bytes that the process may be limited to.
const MEMORY: RangeInclusive<u64> = (1 << 20)..=(1 << 50);

/// Streams at once on a connection of HTTP/2: no less than a page asks for at once (RFC 9113 §6.5.2 wants 100), and no
/// more work than a client may cause by one connection.
const HTTP2_STREAMS: u32 = 128;

/// Reads the `server` section.
pub(super) fn server(tree: Option<&Tree>, problems: &mut Problems) -> Server {
    let mut server = Server {
        threads: thread::available_parallelism().map_or(1, usize::from),
        grace_period: 30 * SECOND,
        restart_grace_period: 3600 * SECOND,
        watch: true,
        head: HeadLimits::default(),
        head_timeout: 30 * SECOND,
        keepalive_timeout: 75 * SECOND,
        connections: None,
        connections_per_address: None,
        requests_per_connection: None,
        http2_streams: HTTP2_STREAMS,
        memory_limit: None,
    };
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`server`")) else {
        return server;
    };
    server.threads = problems.number_or(fields.optional("threads"), &(1..=1024), server.threads);
    for (key, value, least) in [
        ("grace_period", &mut server.grace_period, Duration::ZERO),
        ("restart_grace_period", &mut server.restart_grace_period, Duration::ZERO),
        ("head_timeout", &mut server.head_timeout, SECOND),
        ("keepalive_timeout", &mut server.keepalive_timeout, SECOND),
    ] {
        *value = problems.duration_or(fields.optional(key), &(least..=DAY), *value);
    }
    let HeadLimits { bytes, fields: count, line } = &mut server.head;
    for (key, value, range) in
        [("head_bytes", bytes, 1024..=BYTES_MAX), ("head_line", line, 256..=LINE_MAX)]
    {
        *value = problems.size_or(fields.optional(key), &range, *value);
    }
    *count = problems.number_or(fields.optional("head_fields"), &(8..=FIELDS_MAX), *count);
    for (key, value) in [
        ("connections", &mut server.connections),
        ("connections_per_address", &mut server.connections_per_address),
    ] {
        let parse = |text: &str| scalar::or_auto(text, |text| scalar::number(text, &COUNT));
        *value = fields.optional(key).and_then(|tree| problems.scalar(tree, parse)).flatten();
    }
    let requests = fields.optional("requests_per_connection");
    server.requests_per_connection =
        problems.or_off(requests, None, |text| scalar::number(text, &COUNT));
    let streams = fields.optional("http2_streams");
    server.http2_streams = problems.number_or(streams, &(1..=10_000), server.http2_streams);
    let memory = fields.optional("memory_limit");
    server.memory_limit = problems.or_off(memory, None, |text| scalar::size(text, &MEMORY));
    let watch = fields.optional("watch").and_then(|tree| problems.scalar(tree, scalar::switch));
    server.watch = watch != Some(Switch::Off);
    fields.finish(problems);
    server
}

/// Reads the `access_log` section.
pub(super) fn access_log(
    tree: Option<&Tree>,
    directory: &Path,
    problems: &mut Problems,
) -> AccessLog {
    let mut log = AccessLog { format: LogFormat::Json, target: LogTarget::Stdout };
    let Some(tree) = tree else { return log };
    let toggle = Toggle::of(tree, "access_log", &[Switch::Off]);
    let help = "such as `access_log: { format: json }`";
    let tree = match problems.noted(toggle.map_err(|problem| problem.help(help))) {
        Some(Toggle::Off) => return AccessLog { format: LogFormat::Off, ..log },
        Some(Toggle::Section(tree)) => tree,
        Some(Toggle::On) | None => return log,
    };
    let Some(mut fields) = problems.fields(tree, "`access_log`") else { return log };
    let formats =
        [("json", LogFormat::Json), ("heroku", LogFormat::Heroku), ("off", LogFormat::Off)];
    log.format = problems.choice(fields.optional("format"), &formats).unwrap_or(log.format);
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
