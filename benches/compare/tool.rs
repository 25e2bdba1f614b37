//! The programs of the system that the comparison needs.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::{Context, Failure};

/// Where Debian keeps daemons, which is not on an ordinary user's path.
const DAEMON_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Installs what is missing of `programs`, each with the name of its Debian package.
///
/// # Errors
/// Without the right to install, says the one line that does it.
pub(crate) fn install_missing(programs: &[(&str, &str)]) -> Result<(), Failure> {
    let missing = programs.iter().filter(|(program, _)| find(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y {}", missing.join(" "));
    if !is_root() || find("apt-get").is_none() {
        return Err(Failure::new(format!("{} not found; run as root: {line}", missing.join(", "))));
    }
    eprintln!("installing: {line}");
    let status = Command::new("apt-get")
        .args(["install", "-y"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context(|| format!("cannot run `{line}`"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "`{line}` failed; try `apt-get update` first, or install by hand"
        )))
    }
}

/// The path of a program, if the system has it.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(DAEMON_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The first line of what a program says of its own version, on either of its outputs.
pub(crate) fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return "unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown");
    // Some call themselves by their path.
    first.trim_start_matches(&*program.to_string_lossy()).trim().to_owned()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
