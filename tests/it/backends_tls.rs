//! Backends over TLS: whom Homing believes, and what it shows of itself.

use std::fs;

use crate::harness::{
    Authority, Client, Edge, H2Backend, Launch, TlsBackend, eventually, write_key,
};

const NAME: &str = "shop.internal";

/// HTTP/1.1 by ALPN: `h1` is the answer.
fn backend(authority: &Authority) -> H2Backend {
    H2Backend::plain(Some(TlsBackend::new(&authority.issue(&[NAME]), &["http/1.1"])))
}

/// An app at a backend, with its `backend_tls` and how it is probed.
fn app(name: &str, backend: &H2Backend, tls: &str, health: &str) -> String {
    format!(
        "  - name: {name}\n    domains: [{name}.test]\n    backend_tls: {tls}\n    health: {health}\n    \
         backends: [{{ id: web.1, address: \"{}\" }}]\n",
        backend.address()
    )
}

const PROBED: &str = "{ path: /healthz, interval: 100ms, fall: 1, rise: 1 }";

/// An edge with files that the apps name.
fn launch(files: &[(&str, &str)], apps: &str) -> Edge {
    let launch = Launch::new("", &format!("apps:\n{apps}"));
    for (name, text) in files {
        write_key(&launch.directory().join(name), text);
    }
    launch.start_ready()
}

/// The status that an app answers with.
fn ask(edge: &Edge, app: &str) -> (u16, String) {
    let mut client = Client::connect(edge.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: {app}.test\r\nConnection: close\r\n\r\n"));
    let response = client.read();
    let code = response.header("x-homing-error").unwrap_or("").to_owned();
    (response.status, code)
}

const TRUSTED: (u16, String) = (200, String::new());

fn refused() -> (u16, String) {
    (503, "N21".into())
}

#[test]
fn who_is_signed_by_an_own_authority_is_believed_by_requests_and_probes_and_nobody_else_is() {
    let (own, other) = (Authority::new("root"), Authority::new("root"));
    let backend = backend(&own);
    let tls = |rest: &str| format!("{{ server_name: {NAME}{rest} }}");
    let apps = [
        app("own", &backend, &tls(", ca: own.pem"), PROBED),
        app("connect", &backend, &tls(", ca: own.pem"), "{ interval: 100ms }"),
        app("system", &backend, &tls(""), "off"),
        app("other", &backend, &tls(", ca: other.pem"), "off"),
        app("both", &backend, &tls(", ca: both.pem"), "off"),
        app("name", &backend, "{ server_name: else.internal, ca: own.pem }", "off"),
        app("unchecked", &backend, "{ server_name: else.internal, verify: off }", "off"),
        app("probed", &backend, &tls(", ca: other.pem"), PROBED),
    ];
    let both = format!("{}{}", other.pem, own.pem);
    let files = [("own.pem", &*own.pem), ("other.pem", &other.pem), ("both.pem", &both)];
    let edge = launch(&files, &apps.concat());
    for app in ["own", "connect", "both", "unchecked"] {
        assert_eq!(ask(&edge, app), TRUSTED, "{app}");
    }
    for app in ["system", "other", "name"] {
        assert_eq!(ask(&edge, app), refused(), "{app}");
    }
    assert_eq!(ask(&edge, "probed"), (503, "H10".into()));
}

/// Pingora's pool of connections does not know of authorities.
#[test]
fn a_connection_is_shared_by_nobody_who_would_not_have_opened_it() {
    let (own, other) = (Authority::new("root"), Authority::new("root"));
    let tls = TlsBackend::new(&own.issue(&[NAME]), &["h2"]);
    let backend = H2Backend::plain(Some(tls));
    let of = |name, ca: &str| {
        let tls = format!("{{ server_name: {NAME}, ca: {ca} }}");
        app(name, &backend, &tls, "off\n    backend_protocol: h2")
    };
    let apps = [of("one", "own.pem"), of("two", "other.pem"), of("three", "again.pem")];
    let files = [("own.pem", &*own.pem), ("other.pem", &other.pem), ("again.pem", &own.pem)];
    let edge = launch(&files, &apps.concat());
    assert_eq!(ask(&edge, "one"), TRUSTED);
    assert_eq!(ask(&edge, "two"), refused());
    assert_eq!(ask(&edge, "three"), TRUSTED);
    let connections: Vec<_> = backend.said().iter().map(|said| said.connection).collect();
    assert_eq!(connections, [0, 0], "who believes the same shares");
}

#[test]
fn a_backend_that_asks_who_we_are_is_shown_the_certificate_by_requests_and_probes() {
    let (backends, edges) = (Authority::new("root"), Authority::new("root"));
    let own = backends.issue(&[NAME]);
    let tls = TlsBackend::asking(&own, &["h2", "http/1.1"], &edges);
    let backend = H2Backend::plain(Some(tls));
    let shown = edges.issue(&["edge.internal"]);
    let stranger = backends.issue(&["edge.internal"]);
    let tls = |rest: &str| {
        format!("{{ server_name: {NAME}, ca: ca.pem{rest} }}\n    backend_protocol: h2")
    };
    let with = |name: &str| tls(&format!(", certificate: {name}.pem, key: {name}.key"));
    let apps = [
        app("known", &backend, &with("edge"), PROBED),
        app("nobody", &backend, &tls(""), "off"),
        app("stranger", &backend, &with("stranger"), "off"),
        app("probed", &backend, &with("stranger"), PROBED),
    ];
    let files = [
        ("ca.pem", &*backends.pem),
        ("edge.pem", &shown.certificate),
        ("edge.key", &shown.key),
        ("stranger.pem", &stranger.certificate),
        ("stranger.key", &stranger.key),
    ];
    let edge = launch(&files, &apps.concat());
    assert_eq!(ask(&edge, "known"), TRUSTED);
    for app in ["nobody", "stranger"] {
        assert_eq!(ask(&edge, app).0, 503, "{app}");
    }
    assert_eq!(ask(&edge, "probed"), (503, "H10".into()));
    assert!(!edge.log().join("\n").contains("PRIVATE KEY"));
}

#[test]
fn another_authority_in_the_same_file_is_believed_from_then_on_and_a_broken_file_changes_nothing() {
    let (own, other) = (Authority::new("root"), Authority::new("root"));
    let backend = backend(&own);
    let tls = format!("{{ server_name: {NAME}, ca: ca.pem }}");
    let edge = launch(&[("ca.pem", &other.pem)], &app("shop", &backend, &tls, PROBED));
    assert_eq!(ask(&edge, "shop").0, 503);
    let file = edge.directory().join("ca.pem");
    fs::write(&file, "no certificate").unwrap();
    edge.counts("homing_config_reloads_total{outcome=\"refused\"}", 1.0);
    let log = edge.log().join("\n");
    assert!(log.contains("there is no certificate in it (PEM)"), "{log}");
    fs::write(&file, &own.pem).unwrap();
    eventually("the backend is believed", || (ask(&edge, "shop") == TRUSTED).then_some(()));
}

#[test]
fn one_that_expired_keeps_neither_an_edge_from_starting_nor_a_reload_but_a_reload_does_not_bring_it()
 {
    let (own, old) = (Authority::new("root"), Authority::new("old"));
    let backend = backend(&own);
    let (expired, another) = (old.issue_expired(&[NAME]), old.issue_expired(&[NAME]));
    let tls = format!("{{ server_name: {NAME}, ca: ca.pem }}");
    let shop = app("shop", &backend, &tls, PROBED);
    // What it shows is not valid any more: nobody asks for it here.
    let tls = format!("{{ server_name: {NAME}, ca: ca.pem, certificate: own.pem, key: own.key }}");
    let other = app("other", &backend, &tls, PROBED);
    let files = [
        ("ca.pem", own.pem.as_str()),
        ("own.pem", &expired.certificate),
        ("own.key", &expired.key),
        ("expired.pem", &another.certificate),
    ];
    let launch =
        Launch::new("server: { threads: 2, watch: off }\n", &format!("apps:\n{shop}{other}"));
    for (name, text) in files {
        write_key(&launch.directory().join(name), text);
    }
    let edge = launch.start_ready();
    assert_eq!(ask(&edge, "shop"), TRUSTED);
    let doubt = "own.pem: the certificate for backends expired ";
    let log = edge.log().join("\n");
    assert!(log.contains("warning: ") && log.contains(doubt), "{log}");
    edge.rewrite("domains: [shop.test]", "domains: [shop.test, more.test]");
    let plan = edge.command(&["plan"]);
    plan.is_done("no restart needed");
    assert!(plan.err.contains("warning: ") && plan.err.contains(doubt), "{}", plan.err);
    edge.command(&["reload"]).is_done("accepted");
    assert_eq!(ask(&edge, "more"), TRUSTED);
    // Another one that expired would take the place of one that is valid.
    edge.rewrite("ca: ca.pem }", "ca: expired.pem }");
    for command in ["plan", "reload"] {
        let told = edge.command(&[command]);
        assert_ne!(told.code, Some(0), "{command}");
        let said = "expired.pem: the authority expired ";
        assert!(told.err.contains(said) && !told.err.contains(doubt), "{}", told.err);
    }
    assert_eq!(ask(&edge, "shop"), TRUSTED);
}
