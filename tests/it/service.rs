//! Under a service manager: what it is told, and the sockets it hands over.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{
    Backend, Client, Launch, PATIENCE, QUICK, eventually, homing, kill, scratch, shop,
};

/// The environment of a process.
fn environment(process: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{process}/environ")).unwrap();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

#[test]
fn the_manager_is_told_of_the_beginning_a_restart_and_the_end() {
    let (directory, backend) = (scratch(), Backend::named("web.1"));
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut text = [0; 4096];
        let read = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..read]).into_owned()
    };
    let launch = Launch::new("", &shop(QUICK, &[&backend]));
    let mut edge = launch.variable("NOTIFY_SOCKET", path.to_str().unwrap()).start_ready();
    let worker = edge.worker();
    assert_eq!(heard(), format!("READY=1\nSTATUS=worker {worker} serves, 0 finish"));
    assert!(environment(edge.pid()).contains("NOTIFY_SOCKET"));
    assert!(!environment(worker).contains("NOTIFY_SOCKET"));
    edge.command(&["restart"]).is_done("serves");
    assert!(heard().contains(&format!("STATUS=worker {} serves, 1 finish", edge.worker())));
    edge.signal("-TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(edge.wait().code(), Some(0));
}

#[test]
fn nobody_is_told_that_it_is_ready_when_it_cannot_start() {
    let (directory, backend) = (scratch(), Backend::named("web.1"));
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let launch = Launch::new("trusted_proxies: nobody\n", &shop(QUICK, &[&backend]));
    let ended = Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(["run", "-c", launch.directory().join("homing.yaml").to_str().unwrap()])
        .env("NOTIFY_SOCKET", &path)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let mut text = [0; 4096];
    assert!(manager.recv(&mut text).is_err(), "{}", String::from_utf8_lossy(&text));
}

/// The manager and what it started: one process, which becomes the other.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        kill("-TERM", self.0.id());
        let _ended = self.0.wait();
    }
}

/// Where systemd's own tool is installed.
#[test]
fn sockets_of_the_manager_are_taken_and_not_handed_on() {
    if !Path::new("/usr/bin/systemd-socket-activate").exists() {
        return;
    }
    let backend = Backend::named("web.1");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listeners = format!("listeners: [{{ address: \"{address}\" }}]\n");
    let launch = Launch::new(&listeners, &shop(QUICK, &[&backend]));
    let file = launch.directory().join("homing.yaml");
    let mut command = Command::new("/usr/bin/systemd-socket-activate");
    command.args(["-l", &address.to_string(), env!("CARGO_BIN_EXE_homing"), "run", "-c"]);
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let activated = Activated(command.spawn().unwrap());
    // It starts Homing when the first client comes.
    let mut client = eventually("the manager listens", || {
        std::net::TcpStream::connect(address).ok().map(|_| Client::connect(address))
    });
    assert_eq!(client.get("/", "").text(), "web.1");
    let told = homing(&["status", "--json", "-c", file.to_str().unwrap()]);
    let status: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let worker = u32::try_from(status["process"].as_u64().unwrap()).unwrap();
    assert!(environment(activated.0.id()).contains("LISTEN_FDS=1"));
    assert!(!environment(worker).contains("LISTEN_"));
    let told = homing(&["restart", "-c", file.to_str().unwrap()]);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(Client::connect(address).get("/", "").text(), "web.1");
}
