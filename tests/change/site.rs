//! A Homing with its backends and its file, and the commands of its operator.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;

use crate::harness::{
    Authority, Backend, Edge, Launch, Received, Reply, TlsClient, echo, eventually, scratch,
};
use crate::load::SLOW;
use crate::socketio;

/// How long the slow page takes.
const SLOW_PAGE: Duration = Duration::from_millis(900);

/// How long a worker may take until it serves: longer than a good one needs on a busy machine.
pub(crate) const START_LIMIT: &str = "5s";

/// Whom the certificate names.
const NAMES: [&str; 1] = ["shop.example.com"];

/// A backend of the file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) weight: usize,
}

/// What is in the file.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) key: String,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) restart_grace: &'static str,
    pub(crate) shop: Vec<Entry>,
    pub(crate) chat: Vec<Entry>,
    /// Put into the section of the server as it is.
    pub(crate) slip: &'static str,
}

impl Shape {
    pub(crate) fn text(&self) -> String {
        let Self { key, restart_grace, slip, .. } = self;
        let plain = |address: &SocketAddr| format!("{{ address: \"{address}\" }}");
        let mut listeners: Vec<String> = self.listeners.iter().map(plain).collect();
        // Behind the first, so that those which come and go are the last: they all ask for any port.
        let http2 = "{ address: \"127.0.0.1:0\", protocols: [h2c] }";
        let tls = "{ certificate: shop.pem, key: shop.key }";
        let tls = format!("{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{tls}] }} }}");
        listeners.splice(1..1, [http2.to_owned(), tls]);
        let listeners = listeners.join(", ");
        let health = "{ path: /healthz, interval: 500ms, timeout: 5s, rise: 1, fall: 3 }";
        let mut text = format!(
            "state_dir: state\nadmin: {{ address: \"127.0.0.1:0\" }}\naffinity_keys: [{{ file: {key} }}]\n\
             listeners: [{listeners}]\naccess_log: off\n\
             server: {{ threads: 2, grace_period: 5s, restart_grace_period: {restart_grace}{slip} }}\n\
             defaults: {{ health: {health} }}\ndefault_app: shop\napps:\n"
        );
        for (name, domains, backends) in
            [("shop", "", &self.shop), ("chat", "    domains: [127.0.0.1]\n", &self.chat)]
        {
            if backends.is_empty() {
                continue;
            }
            text.push_str(&format!("  - name: {name}\n{domains}    backends:\n"));
            for Entry { id, address, weight } in backends {
                text.push_str(&format!(
                    "      - {{ id: {id}, address: \"{address}\", weight: {weight} }}\n"
                ));
            }
        }
        text
    }
}

/// A backend that can be reached at two addresses.
pub(crate) struct Pair([Backend; 2]);

impl Pair {
    pub(crate) fn start(id: &str) -> Self {
        let start = || {
            let own = id.to_owned();
            Backend::new(id, move |request, stream| answer(&own, request, stream))
        };
        Self([start(), start()])
    }

    pub(crate) fn entry(&self, which: usize) -> Entry {
        let backend = &self.0[which];
        Entry { id: backend.id().to_owned(), address: backend.address(), weight: 1 }
    }

    /// Refuses connections from now on, and cuts those that are open.
    pub(crate) fn stop(&self) {
        for backend in &self.0 {
            backend.stop();
        }
    }
}

/// Tells who answers, slowly if asked; echoes after an upgrade.
fn answer(id: &str, request: &Received, stream: &mut TcpStream) -> Reply {
    use std::io::Write;
    if request.header("upgrade").is_none() {
        if request.path() == SLOW {
            thread::sleep(SLOW_PAGE);
        }
        return Reply::ok(id);
    }
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Backend: {id}\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).is_err() {
        return Reply::Done;
    }
    echo(stream)
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A Homing of its own, run from a copy of the program.
pub(crate) struct Site {
    pub(crate) edge: Edge,
    pub(crate) shape: Shape,
    pub(crate) backends: Vec<Pair>,
    pub(crate) chat: Option<socketio::Backends>,
    programs: tempfile::TempDir,
    authority: Authority,
}

impl Site {
    /// Starts Homing with four backends, and those of Socket.IO if they can be had.
    pub(crate) fn start(restart_grace: &'static str) -> Self {
        let backends: Vec<Pair> =
            (1..=4).map(|number| Pair::start(&format!("web.{number}"))).collect();
        let chat = socketio::Backends::start();
        let shape = Shape {
            key: "key".into(),
            listeners: vec!["127.0.0.1:0".parse().unwrap()],
            restart_grace,
            shop: backends.iter().map(|pair| pair.entry(0)).collect(),
            chat: chat.as_ref().map(socketio::Backends::entries).unwrap_or_default(),
            slip: "",
        };
        let programs = scratch();
        let good = programs.path().join("good");
        fs::copy(env!("CARGO_BIN_EXE_homing"), &good).unwrap();
        let program = programs.path().join("homing");
        fs::hard_link(&good, &program).unwrap();
        let authority = Authority::new("the authority of a site");
        let launch =
            Launch::of(&shape.text()).with(&["--start-limit", START_LIMIT]).program(program);
        authority.issue(&NAMES).write(launch.directory(), "shop");
        let edge = launch.start_ready();
        Self { edge, shape, backends, chat, programs, authority }
    }

    /// Replaces the certificate by another one.
    pub(crate) fn swap_certificate(&self) {
        self.authority.issue(&NAMES).write(self.edge.directory(), "shop");
    }

    /// How clients believe it that speak one of these protocols.
    pub(crate) fn trust(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsClient::of(&self.authority).but(|config| config.alpn_protocols = protocols).config()
    }

    /// Where the next worker is started from.
    pub(crate) fn program(&self) -> PathBuf {
        self.programs.path().join("homing")
    }

    /// Puts the good program back.
    pub(crate) fn restore_program(&self) {
        let next = self.programs.path().join("next");
        fs::hard_link(self.programs.path().join("good"), &next).unwrap();
        fs::rename(&next, self.program()).unwrap();
        // A rename does nothing when both are the same file already.
        let _gone = fs::remove_file(next);
    }

    /// Replaces the file by a rename.
    pub(crate) fn replace(&self, shape: &Shape) {
        let next = self.edge.directory().join("next.yaml");
        fs::write(&next, shape.text()).unwrap();
        fs::rename(next, self.edge.file()).unwrap();
    }

    /// Writes the file in place.
    pub(crate) fn overwrite(&self, shape: &Shape) {
        fs::write(self.edge.file(), shape.text()).unwrap();
    }

    /// Runs a command on this Homing.
    #[track_caller]
    pub(crate) fn command(&self, arguments: &[&str]) -> Done {
        let mut child = Command::new(env!("CARGO_BIN_EXE_homing"))
            .args(arguments)
            .arg("-c")
            .arg(self.edge.file())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
        let status = eventually(&format!("the end of {arguments:?}"), || child.try_wait().unwrap());
        Done { success: status.success(), out: out.join().unwrap(), err: err.join().unwrap() }
    }

    /// Runs a command that must go well.
    #[track_caller]
    pub(crate) fn well(&self, arguments: &[&str]) -> Done {
        let done = self.command(arguments);
        assert!(done.success, "{arguments:?}: {done:?}");
        done
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.well(&["status", "--json"]).out).unwrap()
    }

    /// The process that serves.
    #[track_caller]
    pub(crate) fn worker(&self) -> u64 {
        self.status()["process"].as_u64().unwrap()
    }

    /// Ends Homing, which takes no longer than what it has in hand.
    pub(crate) fn end(mut self) {
        self.edge.signal("-TERM");
        assert!(self.edge.wait().success(), "{:?}", self.edge.log());
    }
}

fn read(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

/// Keeps a port from others.
pub(crate) fn taken_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// The path of a file in the state directory.
pub(crate) fn in_state(edge: &Edge, name: &str) -> PathBuf {
    Path::new(edge.directory()).join("state").join(name)
}
