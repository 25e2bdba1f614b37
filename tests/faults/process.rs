//! A backend in a process of its own, to be stopped and killed: this program, run again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::harness::kill;
use crate::site;

/// Says to this program which backend it is.
const ID: &str = "HOMING_FAULTS_BACKEND";

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    pub(crate) fn start(id: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::a_backend_of_its_own", "--ignored", "--nocapture"])
            .env(ID, id)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().split("address=").nth(1)?.parse().ok());
        Self { child, address: address.expect("the process tells its address") }
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) fn signal(&self, name: &str) {
        kill(name, self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
#[ignore = "no test, but the backend that the tests start"]
fn a_backend_of_its_own() {
    let Ok(id) = std::env::var(ID) else { return };
    let backend = site::good(&id);
    println!("address={}", backend.address());
    loop {
        std::thread::park();
    }
}
