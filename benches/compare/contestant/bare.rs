//! The example `bare` of this package, built with the profile that built Homing.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::Site;
use crate::{
    failure::{Context, Failure},
    topology,
};

/// Builds the example, which takes no time when it is up to date, and returns where cargo put it.
pub(super) fn locate() -> Result<PathBuf, Failure> {
    let (profile, target) = profile_and_target()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--example", "bare", "--message-format", "json-render-diagnostics"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "--profile",
            &profile,
        ])
        .arg("--target-dir")
        .arg(topology::target_directory())
        .args(target.iter().flat_map(|triple| ["--target", triple]))
        .stderr(Stdio::inherit());
    for name in inherited_from_cargo() {
        build.env_remove(name);
    }
    let output =
        build.output().context(|| "cannot run cargo to build the example `bare`".to_owned())?;
    let messages = String::from_utf8_lossy(&output.stdout);
    messages.lines().find_map(executable).ok_or_else(|| {
        Failure::new("cargo did not build the example `bare`; see above, or give one with `--program bare=PATH`")
    })
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let mut command = Command::new(&site.program);
    command.arg(site.listen.to_string()).args(site.backends.iter().map(ToString::to_string));
    Ok(command)
}

pub(super) fn command_with_forwarding(site: &Site) -> Result<Command, Failure> {
    let mut command = command(site)?;
    command.arg("--forwarding");
    Ok(command)
}

pub(super) fn command_with_work_stealing(site: &Site) -> Result<Command, Failure> {
    let mut command = command(site)?;
    command.arg("--work-stealing");
    Ok(command)
}

/// What cargo tells the program it runs of the package at hand. Build scripts of dependencies look at variables of
/// these names (ring's does), and would be run again, with all that depends on them, for no reason.
fn inherited_from_cargo() -> impl Iterator<Item = OsString> {
    let names = env::vars_os().map(|(name, _)| name);
    names.filter(|name| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    })
}

/// Reads how Homing was built from where it lies: `[TRIPLE/]DIRECTORY/homing` under the target directory.
fn profile_and_target() -> Result<(String, Option<String>), Failure> {
    let homing = Path::new(env!("CARGO_BIN_EXE_homing"));
    let place = homing.strip_prefix(topology::target_directory()).unwrap_or(homing);
    let mut parents = place.iter().rev().skip(1).map(|it| it.to_string_lossy().into_owned());
    let directory = parents
        .next()
        .ok_or_else(|| Failure::new(format!("no profile in {}", homing.display())))?;
    let profile = match directory.as_str() {
        // `cargo bench` builds with `bench`, a copy of `release` that shares its directory.
        "release" => "bench".to_owned(),
        "debug" => "dev".to_owned(),
        _ => directory,
    };
    Ok((profile, parents.next()))
}

/// The path in cargo's message about the finished example.
fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_bare = message["target"]["name"] == "bare";
    message["executable"].as_str().filter(|_| is_bare).map(PathBuf::from)
}
