//! The `server` and `access_log` sections.

use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::model::{AccessLog, LogFormat, LogTarget, Server};
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::limits::{bytes_or_off, number_or_off};
use super::{DAY, SECOND, path};
use crate::wire::head::HeadLimits;

/// Most bytes of a head that can be asked for: Pingora reads no larger one.
const HEAD_BYTES_MAX: usize = 1_000_000;

/// Most fields that can be asked for: Pingora reads no more.
const HEAD_FIELDS_MAX: usize = 256;

/// Most connections or requests that a limit may allow.
const MANY: u64 = 10_000_000;

/// Bytes that the process may be limited to.
const MEMORY: RangeInclusive<u64> = (1 << 20)..=(1 << 50);

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
    for (key, value, limits) in [
        ("head_bytes", bytes, 1024..=HEAD_BYTES_MAX),
        ("head_fields", count, 8..=HEAD_FIELDS_MAX),
        ("head_line", line, 256..=HEAD_BYTES_MAX),
    ] {
        *value = problems.number_or(fields.optional(key), &limits, *value);
    }
    for (key, value) in [
        ("connections", &mut server.connections),
        ("connections_per_address", &mut server.connections_per_address),
    ] {
        *value = count_or_auto(fields.optional(key), problems);
    }
    let requests = fields.optional("requests_per_connection");
    server.requests_per_connection = number_or_off(requests, &(1..=MANY), None, problems);
    let memory = fields.optional("memory_limit");
    server.memory_limit = bytes_or_off(memory, &MEMORY, None, problems);
    let watch = fields.optional("watch").and_then(|tree| problems.scalar(tree, scalar::switch));
    server.watch = watch != Some(Switch::Off);
    fields.finish(problems);
    server
}

/// A whole number, or `auto` for none.
fn count_or_auto(tree: Option<&Tree>, problems: &mut Problems) -> Option<u64> {
    let parse = |text: &str| match text.parse::<u64>() {
        Ok(count @ 1..=MANY) => Ok(Some(count)),
        Err(_) if text == "auto" => Ok(None),
        Ok(_) | Err(_) => Err(format!("expected a whole number from 1 to {MANY}, or `auto`")),
    };
    tree.and_then(|tree| problems.scalar(tree, parse)).flatten()
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
