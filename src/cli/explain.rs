//! `homing explain`

use std::net::IpAddr;

use clap::Args;
use serde_json::{Value, json};

use super::control::Target;
use super::{CommandError, print};

/// Say what would happen to a request now, and why, step by step
///
/// Asks the running Homing: its keys, its backends as they are at this moment, and the very decision that it
/// makes for requests. `homing token inspect` opens a cookie without a running one.
#[derive(Args, Debug)]
pub(super) struct Explain {
    #[command(flatten)]
    target: Target,
    /// The name that the client asks for
    #[arg(long, value_name = "NAME")]
    host: String,
    /// The path that it asks for, with its query
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The value of its affinity cookie, or its whole `Cookie` header
    #[arg(long, value_name = "COOKIE", default_value = "")]
    cookie: String,
    /// A header that it shows; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The address of its client, as Homing finds it
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let body = json!({
            "host": self.host,
            "path": self.path,
            "cookie": self.cookie,
            "headers": self.headers,
            "address": self.address,
        });
        let told = self.target.control()?.post("/v1/explain", &body)?;
        if self.json { print(&format!("{told:#}\n")) } else { print(&text(&told)) }
    }
}

fn text(told: &Value) -> String {
    let mut text = String::new();
    for step in told["steps"].as_array().into_iter().flatten() {
        let word = |key: &str| step[key].as_str().unwrap_or("-").to_owned();
        text.push_str(&format!("{:<12} {}\n", word("what"), word("found")));
    }
    if let Some(outcome) = told["outcome"].as_str() {
        let cause =
            told["cause"].as_str().map_or(String::new(), |cause| format!(", cause {cause}"));
        text.push_str(&format!("{:<12} {outcome}{cause}\n", "outcome"));
    }
    text
}
