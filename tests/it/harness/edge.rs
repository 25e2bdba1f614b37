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
    program: PathBuf,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    log: Lines,
    out: Lines,
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
        Self::launch(Path::new(env!("CARGO_BIN_EXE_homing")), &[], &text(head, apps))
    }

    /// Starts this program with more options and a whole file, and waits only until its ports are bound.
    pub(crate) fn launch(program: &Path, options: &[&str], source: &str) -> Self {
        Launch::of(source).with(options).program(program.to_owned()).start()
    }

    /// Ends politely and starts again with what is in its directory.
    pub(crate) fn stop_and_start(&mut self) {
        self.signal("-TERM");
        assert_eq!(self.wait().code(), Some(0));
        self.start_again();
    }

    /// Starts again with what is in its directory, after it ended.
    pub(crate) fn start_again(&mut self) {
        let (child, log, out) = spawn(&mut command(&self.program, &self.file()));
        (self.child, self.log, self.out) = (child, log, out);
        self.find_addresses();
        self.wait_until_ready();
    }

    /// Finds out where it listens, after a restart.
    pub(crate) fn find_addresses(&mut self) {
        let source = std::fs::read_to_string(self.file()).unwrap();
        let listeners = source.lines().find(|line| line.starts_with("listeners:")).unwrap();
        let count = listeners.matches("address:").count();
        eventually("the edge listens", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the edge ended: {}", self.log().join("\n"));
            let mut log = self.log();
            if let Some(last) = log.iter().rposition(|line| line.contains(" restarting")) {
                log.drain(..last);
            }
            let address = |line: &String| line.split("address=").nth(1)?.trim().parse().ok();
            let (admin, others): (Vec<_>, Vec<_>) = log
                .iter()
                .filter(|line| line.contains("listening"))
                .partition(|line| line.contains("admin listening"));
            // Of several workers the last one counts.
            let others: Vec<SocketAddr> = others.into_iter().filter_map(address).collect();
            self.addresses = others[others.len().checked_sub(count)?..].to_vec();
            self.admin = admin.into_iter().rev().find_map(address)?;
            Some(())
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
        kill(name, self.pid());
    }

    /// The process that stays.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What runs.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the edge ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// An edge that is about to start.
pub(crate) struct Launch {
    directory: tempfile::TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Launch {
    /// Writes the file: more of it in front, and `apps` at its end.
    pub(crate) fn new(head: &str, apps: &str) -> Self {
        Self::of(&text(head, apps))
    }

    /// The same, with the key that Homing makes instead of the one of the tests.
    pub(crate) fn with_own_key(head: &str, apps: &str) -> Self {
        Self::of(&text(head, apps).replace("affinity_keys: [{ file: key }]\n", ""))
    }

    /// Writes this file.
    pub(crate) fn of(source: &str) -> Self {
        let directory = scratch();
        write_key(&directory.path().join("key"), SECRET);
        std::fs::write(directory.path().join("homing.yaml"), source).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_homing"));
        Self { directory, program, arguments: Vec::new(), variables: Vec::new() }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs this program.
    pub(crate) fn program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Runs a link to Homing in the directory, which a test may replace.
    pub(crate) fn replaceable(mut self) -> Self {
        self.program = self.directory.path().join("homing");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_homing"), &self.program).unwrap();
        self
    }

    /// With more arguments.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// With a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts, and waits until its ports are bound.
    pub(crate) fn start(self) -> Edge {
        let mut command = command(&self.program, &self.directory.path().join("homing.yaml"));
        let (child, log, out) = spawn(command.args(&self.arguments).envs(self.variables));
        let (addresses, admin) = (Vec::new(), "127.0.0.1:0".parse().unwrap());
        let (directory, program) = (self.directory, self.program);
        let mut edge = Edge { child, directory, program, addresses, admin, log, out };
        edge.find_addresses();
        edge
    }

    /// Starts, and waits until every backend had its first verdict.
    pub(crate) fn start_ready(self) -> Edge {
        let edge = self.start();
        edge.wait_until_ready();
        edge
    }
}

/// A file: what every edge needs, then `head`, then `apps`.
fn text(head: &str, apps: &str) -> String {
    let mut source = String::from("state_dir: state\n");
    for (key, value) in [
        ("admin", "{ address: \"127.0.0.1:0\" }"),
        ("affinity_keys", "[{ file: key }]"),
        ("listeners", "[{ address: \"127.0.0.1:0\" }]"),
        ("server", "{ threads: 2, grace_period: 5s }"),
    ] {
        if !head.contains(&format!("{key}:")) {
            source.push_str(&format!("{key}: {value}\n"));
        }
    }
    source + head + apps
}

type Lines = Arc<Mutex<Vec<String>>>;

fn command(program: &Path, file: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("run").arg("-c").arg(file);
    command
}

fn spawn(command: &mut Command) -> (Child, Lines, Lines) {
    let mut child = command
        .env("HOMING_LOG", "info,pingora_core=warn,pingora_proxy=off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = collect(child.stderr.take().unwrap());
    let out = collect(child.stdout.take().unwrap());
    (child, log, out)
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

/// Sends a signal, such as `-TERM`.
pub(crate) fn kill(name: &str, process: u32) {
    let status = Command::new("kill").args([name, &process.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Writes a key that only its owner may read.
pub(crate) fn write_key(path: &Path, secret: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, secret).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn collect(stream: impl Read + Send + 'static) -> Lines {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            own.lock().unwrap().push(line);
        }
    });
    lines
}
