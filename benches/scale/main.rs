//! How Homing grows: what apps, backends, probes and connections cost, from few to very many.
//!
//! ```text
//! cargo bench --bench scale [-- OPTIONS]
//! ```
//!
//! In reading order: [`fleet`] makes configurations, [`backend`] is what they lead to, [`client`] asks,
//! [`homing`] is the process that is measured; [`size`], [`probes`] and [`requests`] are the measurements;
//! [`million`] is what follows for a fleet; [`table`] and [`plot`] what becomes of the figures.
//! `docs/scale.md` says how to read them.

#![expect(clippy::print_stdout, reason = "the tables are the product of this program")]
#![expect(clippy::disallowed_methods, reason = "time is what it measures")]

mod backend;
mod client;
mod fleet;
mod homing;
mod million;
mod page;
mod plot;
mod probes;
mod requests;
mod selfcheck;
mod size;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use table::Table;

type Outcome<T> = Result<T, Box<dyn Error>>;

const HELP: &str = "\
cargo bench --bench scale [-- OPTIONS]

  --quick             small sizes only: does it work at all?
  --only NAME,...     of size, probes, apps, backends, connections
  --homing PATH       another build of Homing
  --docs              put tables and plots into docs/scale.md

Tables, CSV and plots are written to target/scale.";

/// What is to be done.
pub(crate) struct Plan {
    quick: bool,
    only: Vec<String>,
    docs: bool,
    program: PathBuf,
    directory: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match parse(std::env::args().skip(1)) {
        Ok(None) => selfcheck::run(),
        Ok(Some(plan)) => measure(&plan),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None`: only to check itself. `cargo test` starts it without `--bench`.
fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Option<Plan>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut plan = Plan {
        quick: false,
        only: Vec::new(),
        docs: false,
        program: PathBuf::from(env!("CARGO_BIN_EXE_homing")),
        directory: root.join("target/scale"),
    };
    let (mut arguments, mut bench) = (arguments, false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value\n{HELP}"));
        match argument.as_str() {
            "--bench" => bench = true,
            "--quick" => plan.quick = true,
            "--docs" => plan.docs = true,
            "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
            "--homing" => plan.program = PathBuf::from(value()?).canonicalize()?,
            option if option.starts_with('-') => return Err(format!("{option}?\n{HELP}").into()),
            _filter => {}
        }
    }
    Ok(bench.then_some(plan))
}

impl Plan {
    /// The sizes that are measured: all, or the smaller ones.
    fn sizes(&self, all: &[usize]) -> Vec<usize> {
        let few = if self.quick { 2 } else { all.len() };
        all.iter().copied().take(few).collect()
    }

    fn seconds(&self, whole: u64) -> u64 {
        if self.quick { 1 } else { whole }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == name)
    }
}

fn measure(plan: &Plan) -> Outcome<()> {
    std::fs::create_dir_all(&plan.directory)?;
    let files = homing::raise_descriptors();
    println!("open files: {files}");
    let mut tables: Vec<Table> = Vec::new();
    for (name, measure) in [
        ("size", size::measure as fn(&Plan) -> Outcome<Table>),
        ("probes", probes::measure),
        ("apps", requests::apps),
        ("backends", requests::backends),
        ("connections", requests::connections),
    ] {
        if plan.wants(name) {
            let table = measure(plan)?;
            println!("\n## {}\n\n{}", table.name, table.markdown());
            table.write(&plan.directory)?;
            tables.push(table);
        }
    }
    if let Some(table) = million::fleet(&tables) {
        println!("\n## {}\n\n{}", table.name, table.markdown());
        table.write(&plan.directory)?;
        tables.push(table);
    }
    if plan.docs {
        page::put(Path::new(env!("CARGO_MANIFEST_DIR")), &tables)?;
    }
    Ok(())
}
