//! vegur_req_log_SUITE: what is known of both sides of a request is one record.

use crate::wire::{GET, Wire};

#[test]
fn merge() {
    let wire = Wire::new();
    let (mut client, _backend) = wire.answered("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.head();
    let line = wire.line();
    assert_eq!(wire.edge.out().len(), 1);
    let ms = |field: &str| line[field].as_u64().unwrap();
    assert!(ms("connect_ms") <= ms("first_byte_ms") && ms("first_byte_ms") <= ms("duration_ms"));
    assert!(ms("service_ms") <= ms("duration_ms"), "{line}");
    assert!(GET.starts_with(line["method"].as_str().unwrap()));
}
