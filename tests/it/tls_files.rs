//! Certificates in their files: checked before they are shown, swapped while clients come, kept when the next is bad.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::harness::{
    Authority, Backend, Edge, Launch, Pair, QUICK, TlsClient, der, eventually, homing, shop, shown,
    write,
};

const NAME: &str = "shop.example.com";
const HEAD: &str = "listeners: [{ address: \"127.0.0.1:0\", tls: { certificates: [{ certificate: site.pem, key: site.key }] } }]\n";
const ACCEPTED: &str = "homing_config_reloads_total{outcome=\"accepted\"}";
const REFUSED: &str = "homing_config_reloads_total{outcome=\"refused\"}";

fn edge(pair: &Pair) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let launch = Launch::new(HEAD, &shop(QUICK, &[&backend]));
    pair.write(launch.directory(), "site");
    (backend, launch.start_ready())
}

/// Reads its files again only when told to.
fn unwatched(pair: &Pair) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let head = format!("server: {{ threads: 2, watch: off }}\n{HEAD}");
    let launch = Launch::new(&head, &shop(QUICK, &[&backend]));
    pair.write(launch.directory(), "site");
    (backend, launch.start_ready())
}

#[track_caller]
fn shows(client: &TlsClient, edge: &Edge, pair: &Pair) {
    let stream = client.connect(edge.address(), NAME).unwrap();
    assert!(shown(&stream) == der(pair));
}

/// What is said of a change that is not taken in.
#[track_caller]
fn is_refused(edge: &Edge, said: &[&str]) {
    edge.command(&["reload"]).is_refused(2, said);
}

/// Clients that come one after another, each with a handshake of its own, until told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn new(client: &TlsClient, edge: &Edge) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..4).map(|_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            // Each handshake a whole one, that is shown a certificate.
            let client =
                client.but(|config| config.resumption = rustls::client::Resumption::disabled());
            let address = edge.address();
            thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.status(address, NAME) {
                        Ok(200) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        other => failed.push(format!("{other:?}")),
                    }
                }
                failed
            })
        });
        let threads = threads.collect();
        Self { stop, done, threads }
    }

    /// Waits until more clients were served.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("clients are served", || {
            (self.done.load(Ordering::Relaxed) > before + 20).then_some(())
        });
    }

    /// How many clients were served, if all of them were.
    #[track_caller]
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            assert_eq!(thread.join().unwrap(), [""; 0]);
        }
        self.done.load(Ordering::Relaxed)
    }
}

#[test]
fn certificates_are_swapped_however_they_are_replaced_and_no_handshake_fails() {
    let authority = Authority::new("root");
    let (_backend, edge) = edge(&authority.issue(&[NAME]));
    let client = TlsClient::of(&authority);
    let crowd = Crowd::new(&client, &edge);
    crowd.goes_on();
    let at = |name: &str| edge.directory().join(name);
    // By a rename, file by file; written in place; and as Kubernetes mounts a Secret.
    let renamed = authority.issue(&[NAME]);
    renamed.write(edge.directory(), "site");
    eventually("the renamed one", || shown_is(&client, &edge, &renamed));
    crowd.goes_on();
    let rewritten = authority.issue(&[NAME]);
    std::fs::write(at("site.key"), &rewritten.key).unwrap();
    std::fs::write(at("site.pem"), &rewritten.certificate).unwrap();
    eventually("the rewritten one", || shown_is(&client, &edge, &rewritten));
    crowd.goes_on();
    let mounted = authority.issue(&[NAME]);
    for (version, pair) in [("1", &rewritten), ("2", &mounted)] {
        std::fs::create_dir(at(version)).unwrap();
        pair.write(&at(version), "site");
    }
    symlink("1", at("..data")).unwrap();
    for file in ["site.pem", "site.key"] {
        symlink(Path::new("..data").join(file), at("link")).unwrap();
        std::fs::rename(at("link"), at(file)).unwrap();
    }
    symlink("2", at("link")).unwrap();
    std::fs::rename(at("link"), at("..data")).unwrap();
    eventually("the mounted one", || shown_is(&client, &edge, &mounted));
    crowd.goes_on();
    assert!(crowd.end() > 80);
}

fn shown_is(client: &TlsClient, edge: &Edge, pair: &Pair) -> Option<()> {
    let stream = client.connect(edge.address(), NAME).ok()?;
    (shown(&stream) == der(pair)).then_some(())
}

#[test]
fn a_bad_file_is_refused_and_what_was_shown_is_shown_on() {
    let authority = Authority::new("root");
    let first = authority.issue(&[NAME]);
    let (_backend, edge) = edge(&first);
    let client = TlsClient::of(&authority);
    let crowd = Crowd::new(&client, &edge);
    let at = |name: &str| edge.directory().join(name);
    let other = authority.issue(&[NAME]);
    write(&at("site.pem"), &other.certificate);
    edge.counts(REFUSED, 1.0);
    is_refused(&edge, &["site.pem: the key is not that of the certificate", "= help: compare"]);
    crowd.goes_on();
    std::fs::remove_file(at("site.pem")).unwrap();
    is_refused(&edge, &["cannot read certificate file", "site.pem: No such file"]);
    let expired = authority.issue_expired(&[NAME]);
    write(&at("site.key"), &expired.key);
    write(&at("site.pem"), &expired.certificate);
    is_refused(
        &edge,
        &["the certificate of `shop.example.com` expired", "days ago", "= help: renew it"],
    );
    crowd.goes_on();
    shows(&client, &edge, &first);
    other.write(edge.directory(), "site");
    eventually("the good one", || shown_is(&client, &edge, &other));
    // Counted a moment after it is shown.
    eventually("an accepted reload", || (edge.metric(ACCEPTED) >= 1.0).then_some(()));
    crowd.goes_on();
    crowd.end();
}

#[test]
fn one_that_expired_keeps_neither_an_edge_from_starting_nor_a_reload_from_being_taken() {
    let (authority, backend) = (Authority::new("root"), Backend::named("web.1"));
    let (expired, good) = (authority.issue_expired(&["old.example.com"]), authority.issue(&[NAME]));
    let head =
        HEAD.replace("certificates: [", "certificates: [{ certificate: old.pem, key: old.key }, ");
    let launch = Launch::new(&head, &shop(QUICK, &[&backend]));
    expired.write(launch.directory(), "old");
    good.write(launch.directory(), "site");
    let edge = launch.start_ready();
    let client = TlsClient::of(&authority);
    assert_eq!(client.status(edge.address(), NAME), Ok(200));
    let said = |edge: &Edge| {
        edge.log().iter().any(|line| line.contains("warning: ") && line.contains("old.example.com"))
    };
    assert!(said(&edge), "{:?}", edge.log());
    let at = |end: &str, name: &str| {
        let (address, key) = (edge.address(), "ecdsa");
        edge.metric(&format!(
            "homing_tls_certificate_{end}_timestamp_seconds{{listener=\"{address}\",name=\"{name}\",key=\"{key}\"}}"
        ))
    };
    assert_eq!(at("begin", "old.example.com"), 1_577_836_800.0);
    assert_eq!(at("expiry", "old.example.com"), 1_609_372_800.0);
    assert!(at("expiry", NAME) > 1_800_000_000.0);
    authority.issue(&[NAME]).write(edge.directory(), "site");
    edge.command(&["reload"]).is_done("accepted");
    let checked = homing(&["check", "-c", edge.file().to_str().unwrap()]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{told}");
    assert!(told.contains(": warning: ") && told.contains("old.example.com"), "{told}");
}

#[test]
fn a_plan_tells_of_another_certificate_and_of_other_settings() {
    let authority = Authority::new("root");
    let (_backend, edge) = unwatched(&authority.issue_with(&[NAME], |params| {
        params.serial_number = Some(rcgen::SerialNumber::from(1_u64));
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    }));
    edge.rewrite("site.key }] }", "site.key }], min_version: 1.3, session_tickets: off }");
    authority
        .issue_with(&[NAME], |params| {
            params.serial_number = Some(rcgen::SerialNumber::from(2_u64));
            params.not_after = rcgen::date_time_ymd(2041, 1, 1);
        })
        .write(edge.directory(), "site");
    let plan = edge.command(&["plan"]);
    plan.is_done("tls.min_version 1.2 -> 1.3");
    plan.is_done("tls.session_tickets on -> off");
    plan.is_done(
        "certificate `shop.example.com` (ecdsa) serial 01 until 2040-01-01T00:00:00Z -> serial 02 until 2041-01-01T00:00:00Z",
    );
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_backend, edge) = edge(&Authority::new("root").issue(&[NAME]));
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(edge.directory().join("site.key"), open).unwrap();
    is_refused(&edge, &["site.key may be read by others (mode 0644)", "= help: chmod 600"]);
}
