//! Pebble, the ACME server of Let's Encrypt for tests, with a name server that knows one address: ours.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use super::suggesting::{Suggested, suggesting};
use super::{eventually, scratch};

/// Where ports of these tests begin: below those that the system gives to clients, since a port is wanted before it
/// is bound.
const PORTS: u16 = 20_000;

/// A server that is about to start.
pub(crate) struct Pebble {
    directory: tempfile::TempDir,
    address: SocketAddr,
    /// Where it is asked.
    front: SocketAddr,
    /// What validations are done at.
    http: u16,
    tls: u16,
    options: serde_json::Value,
    running: Vec<Child>,
}

impl Pebble {
    /// Whether there is one. In CI there has to be.
    pub(crate) fn is_installed() -> bool {
        let found = Command::new("pebble").arg("-h").stderr(Stdio::null()).status().is_ok();
        assert!(found || std::env::var_os("CI").is_none(), "pebble is missing: tools/setup.sh");
        if !found {
            eprintln!("skipped: pebble is missing; on Debian: sudo apt-get install pebble");
        }
        found
    }

    /// One whose address is known.
    pub(crate) fn new() -> Self {
        let directory = scratch();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port()));
        let options = serde_json::json!({});
        Self {
            directory,
            address,
            front: address,
            http: port(),
            tls: port(),
            options,
            running: Vec::new(),
        }
    }

    /// With another setting of its file.
    pub(crate) fn option(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.options[key] = value.into();
        self
    }

    /// With another one in front that suggests when to renew.
    pub(crate) fn suggesting(mut self) -> (Self, Arc<Mutex<Suggested>>) {
        let front = SocketAddr::from(([127, 0, 0, 1], port()));
        let seen = suggesting(front, self.address, self.directory.path());
        self.front = front;
        (self, seen)
    }

    /// Looks for answers at these ports.
    pub(crate) fn looks_at(&mut self, http: SocketAddr, tls: SocketAddr) {
        (self.http, self.tls) = (http.port(), tls.port());
    }

    /// A port where it looks for answers to HTTP-01 until it is told otherwise, and where nobody listens.
    pub(crate) fn http_port(&self) -> u16 {
        self.http
    }

    /// The `acme` section of a file, with more settings.
    pub(crate) fn section(&self, settings: &str) -> String {
        let ca = self.directory.path().join("cert.pem");
        format!(
            "acme: {{ directory: \"https://{}/dir\", terms_of_service_agreed: true, ca: \"{}\", retry_after: 1s{settings} }}\n",
            self.front,
            ca.display()
        )
    }

    /// Starts, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let (names, control) = (port(), port());
        let name_server = format!("127.0.0.1:{names}");
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-dns01", &name_server, "-management", &format!("127.0.0.1:{control}")]);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        self.run(&mut command);
        let mut settings = serde_json::json!({
            "listenAddress": self.address.to_string(),
            "managementListenAddress": format!("127.0.0.1:{}", port()),
            "certificate": self.path("cert.pem"),
            "privateKey": self.path("key.pem"),
            "httpPort": self.http,
            "tlsPort": self.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        });
        for (key, value) in self.options.as_object().unwrap() {
            settings[key] = value.clone();
        }
        let file = self.path("pebble.json");
        std::fs::write(&file, serde_json::json!({ "pebble": settings }).to_string()).unwrap();
        let mut command = Command::new("pebble");
        command.args(["-strict", "-dnsserver", &name_server, "-config"]).arg(&file);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", "0");
        self.run(&mut command);
        eventually("the server and its name server answer", || {
            TcpStream::connect(self.address).ok()?;
            TcpStream::connect(("127.0.0.1", control)).ok()
        });
    }

    fn run(&mut self, command: &mut Command) {
        let log = std::fs::File::create(self.path(&format!("log.{}", self.running.len()))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push(command.spawn().unwrap());
    }

    /// What the server said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log.1")).unwrap_or_default()
    }

    /// A file beside its own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("pebble:\n{}", self.log());
        }
    }
}

/// A port that is free, and that no other test of this process gets.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = PORTS + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if free {
            return port;
        }
    }
}
