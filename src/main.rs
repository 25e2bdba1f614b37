//! Parses the arguments, runs one command, prints one error, returns its exit code.

use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match homing::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                // Nobody may be there to read it.
                let _unread = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::from(error.code())
        }
    }
}
