//! A Homing of its own for each test: a real process, ports 0, killed on drop.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Client, Jar, Response, eventually};

/// A secret that tests share with the edges they start.
pub(crate) const SECRET: &str = "a secret of the tests, long enough for a key";

/// Runs a command of Homing to its end.
pub(crate) fn homing(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(arguments)
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A directory for one test.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) struct Edge {
    child: Child,
    directory: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    out: Arc<Mutex<Vec<String>>>,
}

impl Edge {
    /// Starts with `apps` (the end of a file) on one port, and waits until every backend had its
    /// first verdict.
    pub(crate) fn start(apps: &str) -> Self {
        let edge = Self::start_unready("listeners: [{ address: \"127.0.0.1:0\" }]\n", apps);
        edge.wait_until_ready();
        edge
    }

    /// Starts with more of a file in front, and waits until every backend had its first verdict.
    pub(crate) fn start_with(head: &str, apps: &str) -> Self {
        let edge = Self::start_unready(head, apps);
        edge.wait_until_ready();
        edge
    }

    /// Starts, and waits only until its ports are bound.
    pub(crate) fn start_unready(head: &str, apps: &str) -> Self {
        let admin = "admin: { address: \"127.0.0.1:0\" }\n";
        let keys =
            if head.contains("affinity_keys") { "" } else { "affinity_keys: [{ file: key }]\n" };
        let listeners = if head.contains("listeners:") {
            ""
        } else {
            "listeners: [{ address: \"127.0.0.1:0\" }]\n"
        };
        let server = if head.contains("server:") {
            ""
        } else {
            "server: { threads: 2, grace_period: 5s }\n"
        };
        let source = format!("state_dir: state\n{admin}{keys}{listeners}{server}{head}{apps}");
        Self::launch(Path::new(env!("CARGO_BIN_EXE_homing")), &[], &source)
    }

    /// Starts this program with more options and a whole file, and waits only until its ports are bound.
    pub(crate) fn launch(program: &Path, options: &[&str], source: &str) -> Self {
        let directory = scratch();
        write_key(&directory.path().join("key"), SECRET);
        let file = directory.path().join("homing.yaml");
        std::fs::write(&file, source).unwrap();
        let mut child = Command::new(program)
            .args(["run", "-c", file.to_str().unwrap()])
            .args(options)
            .env("HOMING_LOG", "info,pingora_core=warn,pingora_proxy=off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = collect(child.stderr.take().unwrap());
        let out = collect(child.stdout.take().unwrap());
        let nowhere = "127.0.0.1:0".parse().unwrap();
        let mut edge = Self { child, directory, addresses: Vec::new(), admin: nowhere, log, out };
        edge.find_addresses();
        edge
    }

    fn find_addresses(&mut self) {
        let count = std::fs::read_to_string(self.directory.path().join("homing.yaml")).unwrap();
        let listeners = count.lines().find(|line| line.starts_with("listeners:")).unwrap();
        let count = listeners.matches("address:").count();
        eventually("the edge listens", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the edge ended: {}", self.log().join("\n"));
            let log = self.log();
            let address = |line: &String| line.split("address=").nth(1)?.trim().parse().ok();
            let (admin, others): (Vec<_>, Vec<_>) = log
                .iter()
                .filter(|line| line.contains("listening"))
                .partition(|line| line.contains("admin listening"));
            self.addresses = others.into_iter().filter_map(address).collect();
            self.admin = admin.into_iter().find_map(address)?;
            (self.addresses.len() == count).then_some(())
        });
    }

    pub(crate) fn wait_until_ready(&self) {
        eventually("the edge is ready", || (self.ask("/readyz").status == 200).then_some(()));
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where they connect, listener by listener.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics and status are served.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("homing.yaml")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// Gets a path on a new connection, without cookies.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        Jar::default().get(self.address(), path)
    }

    /// Asks the admin listener.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str) -> Response {
        let mut client = Client::connect(self.admin());
        client.get(path, "Connection: close\r\n")
    }

    /// The value of a series, written as `/metrics` has it; 0 when it is not there.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.ask("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a backend admits this.
    #[track_caller]
    pub(crate) fn wait_for(&self, backend: &str, admission: &str) {
        let series = format!(
            "homing_backend_admission{{app=\"shop\",backend=\"{backend}\",admission=\"{admission}\"}}"
        );
        eventually(&series, || (self.metric(&series) > 0.5).then_some(()));
    }

    /// Waits until a series has this value: a request is counted a moment after its answer was read.
    #[track_caller]
    pub(crate) fn counts(&self, series: &str, expected: f64) {
        eventually(&format!("{series} is {expected}"), || {
            (self.metric(series) == expected).then_some(())
        });
    }

    /// Waits until the app `shop` has counted so many requests with this outcome.
    #[track_caller]
    pub(crate) fn counts_affinity(&self, outcome: &str, cause: &str, expected: f64) {
        self.counts(&affinity(outcome, cause), expected);
    }

    /// The affinity counter of the app `shop`.
    #[track_caller]
    pub(crate) fn affinity(&self, outcome: &str, cause: &str) -> f64 {
        self.metric(&affinity(outcome, cause))
    }

    /// What the program logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// What it printed so far: the access log.
    pub(crate) fn out(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the edge ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

fn affinity(outcome: &str, cause: &str) -> String {
    format!(
        "homing_affinity_requests_total{{app=\"shop\",outcome=\"{outcome}\",cause=\"{cause}\"}}"
    )
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let panics: Vec<String> =
            self.log().into_iter().filter(|line| line.contains("panicked")).collect();
        if !thread::panicking() {
            assert!(panics.is_empty(), "the edge panicked: {panics:?}");
        }
    }
}

/// Writes a key that only its owner may read.
pub(crate) fn write_key(path: &Path, secret: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, secret).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            own.lock().unwrap().push(line);
        }
    });
    lines
}
