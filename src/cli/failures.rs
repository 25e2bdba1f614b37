//! `homing failures`

use std::fmt::Write;

use clap::Args;

use super::{CommandError, print};
use crate::balancer::failure::{Facts, Failure, Party, Repeat, Retried};

/// What stands above the table.
const PREFACE: &str = include_str!("failures.md");

/// Say what can fail, whose fault that is and what becomes of it
///
/// Without an argument, all of it as a page of Markdown.
#[derive(Args, Debug)]
pub(super) struct Failures {
    /// A code, a label or a status, such as H12: that alone
    failure: Option<String>,
}

impl Failures {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let mut all = Failure::ALL.map(Failure::facts);
        all.sort_by_key(|facts| facts.code);
        let Some(wanted) = self.failure else { return print(&page(&all)) };
        let is_wanted = |facts: &&Facts| {
            let statuses = [facts.status.to_string(), facts.rfc9110.to_string()];
            facts.code.eq_ignore_ascii_case(&wanted)
                || facts.label == wanted
                || statuses.contains(&wanted)
        };
        let found: Vec<_> = all.iter().filter(is_wanted).map(told).collect();
        if found.is_empty() {
            let text = format!("no failure has the code, label or status `{wanted}`");
            return Err(CommandError::Usage(text));
        }
        print(&found.join("\n"))
    }
}

fn page(all: &[Facts]) -> String {
    let mut page = String::from(PREFACE);
    for facts in all {
        let status = match facts.status == facts.rfc9110 {
            true => facts.status.to_string(),
            false => format!("{}, {}", facts.status, facts.rfc9110),
        };
        let after = facts.retry_after.map_or(String::new(), |seconds| format!("{seconds} s"));
        // Writing to memory cannot fail.
        let _infallible = writeln!(
            page,
            "| {} | `{}` | {status} | {} | {} | {} | {} | {after} | {} | {} |",
            facts.code,
            facts.label,
            party(facts.party),
            facts.level.as_str(),
            retried(facts.retried),
            repeat(facts.repeat),
            facts.grpc.name(),
            facts.when,
        );
    }
    page
}

/// One failure, line by line.
fn told(facts: &Facts) -> String {
    let after = match facts.retry_after {
        Some(seconds) => format!("; `Retry-After: {seconds}`"),
        None => String::new(),
    };
    format!(
        "{} {}: {}\n  when      {}\n  fault     {}, logged as {}\n  status    {} (`status: heroku`), {} (`status: rfc9110`), {} in gRPC\n  \
         by us     {}\n  by client {}{after}\n",
        facts.code,
        facts.label,
        facts.text,
        facts.when,
        party(facts.party),
        facts.level.as_str(),
        facts.status,
        facts.rfc9110,
        facts.grpc.name(),
        retried(facts.retried),
        repeat(facts.repeat),
    )
}

fn party(party: Party) -> &'static str {
    match party {
        Party::Backend => "backend",
        Party::Client => "client",
        Party::Edge => "Homing",
        Party::Operator => "operator",
    }
}

fn retried(retried: Retried) -> &'static str {
    match retried {
        Retried::Again => "again",
        Retried::Elsewhere => "elsewhere",
        Retried::Never => "no",
    }
}

fn repeat(repeat: Repeat) -> &'static str {
    match repeat {
        Repeat::Any => "yes",
        Repeat::Idempotent => "idempotent",
        Repeat::Never => "no",
    }
}
