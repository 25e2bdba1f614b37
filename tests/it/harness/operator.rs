//! The operator: commands to a running edge, and changes of its file.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{Edge, eventually, homing};

/// What a command said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Told {
    /// It was done, and said this.
    #[track_caller]
    pub(crate) fn is_done(&self, said: &str) {
        assert!(self.code == Some(0) && self.out.contains(said), "{said}: {self:?}");
    }

    /// It failed with this exit code and said each of these.
    #[track_caller]
    pub(crate) fn is_refused(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in said {
            assert!(self.err.contains(part), "{part}: {self:?}");
        }
    }
}

/// Runs a line of the shell, with `$0` as a path.
pub(crate) fn shell(line: &str, path: &Path) -> Told {
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(path).stdin(Stdio::null()).output().unwrap().into()
}

impl Edge {
    /// Runs a command with `-c FILE`.
    pub(crate) fn command(&self, words: &[&str]) -> Told {
        let file = self.file();
        let mut arguments = words.to_vec();
        arguments.extend(["-c", file.to_str().unwrap()]);
        homing(&arguments).into()
    }

    /// Writes the file in place, changed.
    #[track_caller]
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let source = std::fs::read_to_string(self.file()).unwrap();
        assert!(source.contains(from), "`{from}` is not in\n{source}");
        std::fs::write(self.file(), source.replace(from, to)).unwrap();
    }

    /// Changes the file and has it read.
    #[track_caller]
    pub(crate) fn reload_with(&self, from: &str, to: &str) {
        self.rewrite(from, to);
        self.command(&["reload"]).is_done("is accepted");
    }

    /// What `homing status --json` says.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let told = self.command(&["status", "--json"]);
        assert_eq!(told.code, Some(0), "{told:?}");
        serde_json::from_str(&told.out).unwrap()
    }

    /// The status of a backend of the first app.
    #[track_caller]
    pub(crate) fn backend_status(&self, id: &str) -> Value {
        let status = self.status();
        let backends = status["apps"][0]["backends"].as_array().unwrap();
        backends.iter().find(|backend| backend["id"] == id).unwrap().clone()
    }

    /// The process that serves.
    #[track_caller]
    pub(crate) fn worker(&self) -> u32 {
        u32::try_from(self.status()["process"].as_u64().unwrap()).unwrap()
    }

    /// The number of the configuration that runs.
    #[track_caller]
    pub(crate) fn generation(&self) -> f64 {
        self.metric("homing_config_generation")
    }

    /// Waits until the log says something.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        eventually(&format!("the log says `{text}`"), || {
            self.log().iter().any(|line| line.contains(text)).then_some(())
        });
    }
}

/// A program in the place of Homing's: a script of the shell, in which `$HOMING` is the real one.
pub(crate) fn install(edge: &Edge, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let next = edge.directory().join("next");
    let real = env!("CARGO_BIN_EXE_homing");
    std::fs::write(&next, format!("#!/bin/sh\nHOMING={real}\n{script}\n")).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(next, edge.program()).unwrap();
}
