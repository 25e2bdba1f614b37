//! The commands as JSON on the admin listener: for who has the token, and no web page.

use serde_json::{Value, json};

use crate::harness::{Backend, Client, Edge, Launch, QUICK, Response, shop, write_key};

const TOKEN: &str = "Authorization: Bearer a token of the tests, long\r\n";
const HOST: &str = "Host: localhost\r\n";

fn edge() -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let head = "server: { threads: 2, watch: off }\nadmin: { address: \"127.0.0.1:0\", token: { file: token }, hosts: [edge.internal] }\n";
    let launch = Launch::new(head, &shop(QUICK, &[&backend]));
    write_key(&launch.directory().join("token"), "a token of the tests, long\n");
    (backend, launch.start_ready())
}

fn send(edge: &Edge, line: &str, headers: &str, body: &str) -> Response {
    let mut client = Client::connect(edge.admin());
    let length = body.len();
    client.send(format!(
        "{line} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ));
    client.read()
}

fn post(edge: &Edge, path: &str, body: &Value) -> (u16, Value) {
    let line = format!("POST {path}");
    let response = send(edge, &line, &format!("{HOST}{TOKEN}"), &body.to_string());
    assert_eq!(response.header("content-type"), Some("application/json"));
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

#[test]
fn the_token_opens_every_command() {
    let (_backend, edge) = edge();
    let administer = |state: &str| {
        post(&edge, "/v1/administer", &json!({ "app": "shop", "backend": "web.1", "state": state }))
    };
    assert_eq!(administer("drain").1["backends"], json!(["web.1"]));
    assert_eq!(edge.backend_status("web.1")["administrative"], "drain");
    assert_eq!(administer("ready").0, 200);
    assert_eq!(edge.backend_status("web.1")["administrative"], "ready");
    assert_eq!(administer("maintenance").0, 200);
    assert_eq!(edge.backend_status("web.1")["reason"], "maintenance");
    assert_eq!(administer("ready").0, 200);
    assert_eq!(post(&edge, "/v1/maintenance", &json!({ "app": "shop", "on": true })).0, 200);
    assert_eq!(edge.get("/").status, 503);
    assert_eq!(post(&edge, "/v1/maintenance", &json!({ "app": "shop", "on": false })).0, 200);
    assert_eq!(edge.get("/").status, 200);

    assert_eq!(post(&edge, "/v1/reload", &json!({})).1["generation"], 2);
    let source = std::fs::read_to_string(edge.file()).unwrap();
    let plan = json!({ "path": edge.file(), "source": source.replace("threads: 2", "threads: 3") });
    assert_eq!(post(&edge, "/v1/plan", &plan).1["needs_restart"], json!(["server.threads"]));

    let before = edge.worker();
    let (status, answer) = post(&edge, "/v1/restart", &json!({}));
    assert_eq!(
        (status, answer["message"].as_str()),
        (200, Some(&*format!("worker {} serves", edge.worker())))
    );
    assert_ne!(edge.worker(), before);
}

#[test]
fn a_drain_of_an_app_with_a_deadline() {
    let (_backend, edge) = edge();
    let body = json!({ "app": "shop", "state": "drain", "deadline_seconds": 3600 });
    assert_eq!(post(&edge, "/v1/administer", &body).0, 200);
    assert!(edge.backend_status("web.1")["deadline"].is_u64());
}

/// Each of these changes nothing.
#[track_caller]
fn refuses(edge: &Edge, line: &str, headers: &str, body: &str, status: u16, said: &str) {
    let response = send(edge, line, headers, body);
    assert_eq!(response.status, status, "{line} {headers} {}", response.text());
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert!(answer["error"].as_str().unwrap().contains(said), "{answer}");
    assert_eq!((edge.generation(), edge.get("/").status), (1.0, 200));
}

#[test]
fn who_may_not_changes_nothing() {
    let (_backend, edge) = edge();
    let on = "{\"app\":\"shop\",\"on\":true}";
    for (headers, status, said) in [
        (HOST.to_owned(), 401, "bearer token"),
        (format!("{HOST}Authorization: Bearer another one\r\n"), 401, "bearer token"),
        (format!("Host: rebound.example\r\n{TOKEN}"), 421, "admin.hosts"),
        (format!("{HOST}{TOKEN}Origin: http://localhost\r\n"), 403, "web pages"),
        (format!("{HOST}{TOKEN}Sec-Fetch-Site: same-origin\r\n"), 403, "web pages"),
    ] {
        refuses(&edge, "POST /v1/maintenance", &headers, on, status, said);
        refuses(&edge, "POST /v1/reload", &headers, "", status, said);
    }
    let named = format!("Host: edge.internal:9180\r\n{TOKEN}");
    assert_eq!(send(&edge, "POST /v1/maintenance", &named, on).status, 200);
    assert_eq!(edge.get("/").status, 503);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (_backend, edge) = edge();
    let headers = format!("{HOST}{TOKEN}");
    for (line, body, status, said) in [
        ("GET /v1/reload", "", 405, "POST"),
        ("DELETE /v1/maintenance", "", 405, "POST"),
        ("POST /v1/nothing", "{}", 404, "no such command"),
        ("POST /v1/maintenance", "{\"app\":\"shop\",", 400, "EOF"),
        ("POST /v1/maintenance", "{\"app\":\"shop\"}", 400, "`on`"),
        ("POST /v1/maintenance", "{\"app\":\"shop\",\"on\":true,\"off\":1}", 400, "`off`"),
        ("POST /v1/maintenance", "{\"app\":\"mall\",\"on\":true}", 404, "no app `mall`"),
        ("POST /v1/administer", "{\"app\":\"shop\",\"state\":\"gone\"}", 400, "`drain`"),
        (
            "POST /v1/administer",
            "{\"app\":\"shop\",\"backend\":\"web.9\",\"state\":\"drain\"}",
            404,
            "web.9",
        ),
        (
            "POST /v1/administer",
            "{\"app\":\"shop\",\"state\":\"ready\",\"deadline_seconds\":1}",
            400,
            "deadline",
        ),
        ("POST /v1/plan", "{\"path\":\"x.yaml\",\"source\":\"apps: 7\"}", 422, "x.yaml:1:7: error"),
    ] {
        refuses(&edge, line, &headers, body, status, said);
    }
}

#[test]
fn without_a_token_in_the_file_there_are_no_commands_there() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let headers = format!("{HOST}{TOKEN}");
    refuses(&edge, "POST /v1/reload", &headers, "", 404, "admin.token");
    refuses(&edge, "GET /v1/status", &headers, "", 404, "admin.token");
}
