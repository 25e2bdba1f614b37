//! vegur_bytepipe_SUITE: the pipe between two connections after an upgrade. Its two ways of being run (as a process of
//! its own, or as one that becomes it) are one here; what each test shows of it on the wire is kept.

use crate::wire::{Side, Wire};

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

/// A pipe with bytes in it.
fn piped(wire: &Wire) -> (Side, Side) {
    let (mut client, mut backend, _) = wire.asked(UPGRADE);
    backend.send(SWITCH);
    assert_eq!(client.head().status(), 101);
    client.send("\0\r\n\r\nraw");
    backend.expect("\0\r\n\r\nraw").send("HTTP/1.1 200 OK\r\n\r\n");
    client.expect("HTTP/1.1 200 OK\r\n\r\n");
    (client, backend)
}

#[test]
fn pipe_proc() {
    let (client, mut backend) = piped(&Wire::new());
    drop(client);
    backend.closed();
}

#[test]
fn pipe_become() {
    let (mut client, backend) = piped(&Wire::new());
    drop(backend);
    client.closed();
}

#[test]
fn pipe_proc_callback() {
    // What passed is known when it ends.
    let wire = Wire::new();
    let (client, _backend) = piped(&wire);
    drop(client);
    let line = wire.line();
    assert_eq!((&line["status"], &line["bytes"]), (&101.into(), &19.into()), "{line}");
}

#[test]
fn pipe_become_callback() {
    let wire = Wire::new();
    let (_client, backend) = piped(&wire);
    wire.edge.counts("homing_upgraded_connections{app=\"shop\"}", 1.0);
    drop(backend);
    wire.edge.counts("homing_upgraded_connections{app=\"shop\"}", 0.0);
}

/// Both sides are closed when neither says anything.
fn times_out() {
    let wire = Wire::with("    timeouts: { upgraded_idle: 1s }\n");
    let (mut client, mut backend) = piped(&wire);
    client.closed();
    backend.closed();
}

#[test]
fn pipe_proc_timeout() {
    times_out();
}

#[test]
fn pipe_become_timeout() {
    times_out();
}
