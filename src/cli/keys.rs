//! `homing keys`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::control::Target;
use super::operate::say;
use super::{CommandError, print};
use crate::app::{new_secret, write_secret};
use crate::balancer::affinity::keyring::Key;

/// Make, list, rotate and retire the keys that seal affinity cookies
///
/// Nobody's pin moves at any step. On one edge, with the keys that Homing makes: `rotate`, and when the old key
/// is not used any more, `retire` it. On several edges: `generate` a file, list it last in `affinity_keys` on
/// every edge, then first, and take the old one out when `retire` says that it can go.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    Generate(Generate),
    List(List),
    Retire(Retire),
    Rotate(Rotate),
}

impl Keys {
    pub(super) fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::List(list) => list.run(),
            Self::Retire(retire) => retire.run(),
            Self::Rotate(rotate) => rotate.run(),
        }
    }
}

/// Make a key in a new file, for its owner alone
#[derive(Args, Debug)]
pub(super) struct Generate {
    /// The file, such as keys/2026-12
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Generate {
    fn run(self) -> Result<(), CommandError> {
        let secret = new_secret();
        let key = Key::from_secret(secret.as_bytes());
        let key = key.map_err(|error| CommandError::Failed(error.to_string()))?;
        write_secret(&self.file, &secret).map_err(|error| {
            let file = self.file.display();
            CommandError::Failed(format!("cannot make {file}: {error}"))
        })?;
        print(&format!("{}\n", key.id()))
    }
}

/// Say which keys the running Homing has, which one seals, and when each was last used
#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    target: Target,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self) -> Result<(), CommandError> {
        let answer = self.target.control()?.post("/v1/keys/list", &json!({}))?;
        if self.json { print(&format!("{answer:#}\n")) } else { print(&table(&answer)) }
    }
}

/// Make a new key that seals from now on; the others go on to open
#[derive(Args, Debug)]
pub(super) struct Rotate {
    #[command(flatten)]
    target: Target,
}

impl Rotate {
    fn run(self) -> Result<(), CommandError> {
        say(&self.target.control()?.post("/v1/keys/rotate", &json!({}))?)
    }
}

/// Give up a key, if no client can hold a token under it any more
#[derive(Args, Debug)]
pub(super) struct Retire {
    #[command(flatten)]
    target: Target,
    /// The id of the key
    #[arg(value_name = "KEY")]
    id: String,
    /// Although clients may hold tokens under it: they are pinned anew
    #[arg(long)]
    force: bool,
}

impl Retire {
    fn run(self) -> Result<(), CommandError> {
        let body = json!({ "id": self.id, "force": self.force });
        say(&self.target.control()?.post("/v1/keys/retire", &body)?)
    }
}

fn table(answer: &Value) -> String {
    let mut text = format!("{:<8}  {:<5}  {:>12}  last used\n", "key", "role", "opened");
    for key in answer["keys"].as_array().into_iter().flatten() {
        let role = if key["seals"] == true { "seals" } else { "opens" };
        let last = match key["used_seconds_ago"].as_u64() {
            Some(seconds) => format!("{seconds} s ago"),
            None => format!("not within the {} s it was watched", answer["watched_seconds"]),
        };
        let id = key["id"].as_str().unwrap_or("-");
        text.push_str(&format!("{id:<8}  {role:<5}  {:>12}  {last}\n", key["opens"].to_string()));
    }
    text
}
