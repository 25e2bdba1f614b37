//! `homing status`

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::control::Target;
use super::{CommandError, print};

/// Say how apps, backends and processes are
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    target: Target,
    /// One app only
    #[arg(short, long, value_name = "APP")]
    app: Option<String>,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let mut status = self.target.control()?.get("/v1/status")?;
        if let (Some(name), Some(apps)) = (&self.app, status["apps"].as_array_mut()) {
            apps.retain(|app| app["name"] == name.as_str());
            if apps.is_empty() {
                return Err(CommandError::Usage(format!("there is no app `{name}`")));
            }
        }
        if self.json { print(&format!("{status:#}\n")) } else { print(&shown(&status)) }
    }
}

fn shown(status: &Value) -> String {
    let mut text = format!(
        "homing {}, generation {}, process {}\n",
        word(&status["version"]),
        status["generation"],
        status["process"]
    );
    let pressure: Vec<&str> =
        status["pressure"].as_array().into_iter().flatten().map(word).collect();
    if !pressure.is_empty() {
        let of = pressure.join(" and ");
        let _infallible = writeln!(text, "little is left of {of}: nobody new is let in");
    }
    for finishing in status["finishing"].as_array().into_iter().flatten() {
        let _infallible = writeln!(
            text,
            "process {} finishes: {} connections, {} streams, cut in {} s",
            finishing["process"],
            finishing["connections"],
            finishing["streams"],
            finishing["deadline_seconds"]
        );
    }
    for certificate in status["certificates"].as_array().into_iter().flatten() {
        text.push_str(&certified(certificate));
    }
    for app in status["apps"].as_array().into_iter().flatten() {
        let domains: Vec<&str> =
            app["domains"].as_array().into_iter().flatten().map(word).collect();
        let maintenance = if app["maintenance"] == true { ", in maintenance" } else { "" };
        let _infallible =
            writeln!(text, "\n{}  {}{maintenance}", word(&app["name"]), domains.join(" "));
        text.push_str(&table(app["backends"].as_array().map_or(&[], Vec::as_slice)));
    }
    text
}

/// How it stands with a certificate that an ACME server gives.
fn certified(certificate: &Value) -> String {
    let time = |value: &Value| {
        let time = value.as_i64().and_then(|time| jiff::Timestamp::from_second(time).ok());
        time.map(|time| time.to_string())
    };
    let expires = time(&certificate["expires"]);
    let expires = expires.map_or_else(|| "none".into(), |time| format!("expires {time}"));
    let next = time(&certificate["next_order"]).unwrap_or_default();
    let why = certificate["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
    format!("certificate of {}: {expires}, next order {next}{why}\n", word(&certificate["name"]))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// One backend a line, columns aligned.
fn table(backends: &[Value]) -> String {
    const HEAD: [&str; 9] = [
        "backend",
        "address",
        "admits",
        "why",
        "weight",
        "in flight",
        "waiting",
        "streams",
        "clients",
    ];
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(backends.iter().map(|backend| {
        let number = |key: &str| backend[key].to_string();
        [
            word(&backend["id"]).to_owned(),
            word(&backend["address"]).to_owned(),
            word(&backend["admission"]).to_owned(),
            why(backend),
            number("weight"),
            number("requests_in_flight"),
            number("requests_waiting"),
            number("streams"),
            number("bound_clients"),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _infallible = writeln!(text, "  {}", line.trim_end());
    }
    text
}

/// The reason of an admission, with what the last probe said when that is bad news.
fn why(backend: &Value) -> String {
    let reason = word(&backend["reason"]);
    let probe = backend["last_probe"]["result"].as_str().filter(|result| *result != "passed");
    probe.map_or_else(|| reason.to_owned(), |probe| format!("{reason} ({probe})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_fits_a_terminal() {
        let status = json!({
            "version": "1.0", "generation": 3, "process": 7, "pressure": ["connections", "memory"],
            "finishing": [{ "process": 5, "connections": 2, "streams": 1, "deadline_seconds": 60 }],
            "certificates": [{ "name": "a.example", "next_order": 60, "failures": 1, "error": "no" },
                { "name": "b.example", "expires": 86400, "next_order": 3600, "failures": 0 }],
            "apps": [{ "name": "shop", "domains": ["a.example"], "maintenance": true, "backends": [{
                "id": "web.1", "address": "127.0.0.1:1", "admission": "closed", "reason": "unhealthy",
                "last_probe": { "result": "status 500" }, "weight": 1, "requests_in_flight": 0,
                "requests_waiting": 3, "streams": 0, "bound_clients": 12
            }] }]
        });
        let expected = "homing 1.0, generation 3, process 7\n\
            little is left of connections and memory: nobody new is let in\n\
            process 5 finishes: 2 connections, 1 streams, cut in 60 s\n\
            certificate of a.example: none, next order 1970-01-01T00:01:00Z: no\n\
            certificate of b.example: expires 1970-01-02T00:00:00Z, next order 1970-01-01T01:00:00Z\n\
            \n\
            shop  a.example, in maintenance\n\
            \x20 backend  address      admits  why                     weight  in flight  waiting  streams  clients\n\
            \x20 web.1    127.0.0.1:1  closed  unhealthy (status 500)  1       0          3        0        12\n";
        assert_eq!(shown(&status), expected);
    }
}
