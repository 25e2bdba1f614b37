//! `homing demo`

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};

use super::{CommandError, print};
use crate::app::{Edge, StartError, extra_service, write_secret};
use crate::config;
use crate::demo::DemoBackend;
use crate::shared::Clock;
use crate::telemetry::logging;
use crate::tls::Fingerprint;

/// Backends of the demo.
const BACKENDS: usize = 3;

/// Show what Homing does: three backends that count visits in memory, and an edge before them
///
/// Nothing else is needed. The counters live in the backends' memory only: they go on counting as long
/// as every request of yours returns to the same one.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Where the edge listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// Where metrics and status are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    admin: SocketAddr,
    /// Speak HTTPS and HTTP/2, with a certificate made for this demo
    #[arg(long)]
    tls: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let listeners: Vec<TcpListener> = (0..BACKENDS)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let state = tempdir().map_err(refused)?;
        let made =
            if self.tls { Some(Made::new(&state.0, self.address).map_err(refused)?) } else { None };
        let source = self.file(&listeners, &state.0);
        let config =
            config::parse(&state.0.join("demo.yaml"), source).map_err(CommandError::Config)?;
        // What the demo has to say is on the terminal; the log would only hide it.
        if std::env::var_os("HOMING_LOG").is_some() {
            logging::start();
        }
        let mut edge = Edge::prepare(config).map_err(with_way_out)?;
        for (listener, number) in listeners.into_iter().zip(1..) {
            let id = format!("web.{number}");
            let service = extra_service(id.clone(), DemoBackend::new(id), listener);
            edge.add_service(service.map_err(refused)?);
        }
        let address = edge.bound().addresses().next().unwrap_or(self.address);
        let admin = edge.bound().admin().unwrap_or(self.admin);
        print(&welcome(address, admin, made.as_ref()))?;
        edge.run().map_err(CommandError::Start)
    }

    fn file(&self, backends: &[TcpListener], state: &Path) -> String {
        let mut file = format!(
            "state_dir: {}\nadmin: {{ address: \"{}\" }}\naccess_log: {{ format: heroku }}\n\
             server: {{ threads: 2, grace_period: 2s }}\nlisteners:\n  - address: \"{}\"\n{}default_app: demo\n\
             apps:\n  - name: demo\n    health: {{ path: /healthz, interval: 1s }}\n    backends:\n",
            state.display(),
            self.admin,
            self.address,
            if self.tls { LISTENER } else { "" },
        );
        for (listener, number) in backends.iter().zip(1..) {
            if let Ok(address) = listener.local_addr() {
                file.push_str(&format!("      - {{ id: web.{number}, address: \"{address}\" }}\n"));
            }
        }
        file
    }
}

fn refused(error: std::io::Error) -> CommandError {
    CommandError::Start(StartError::System(error))
}

fn with_way_out(error: StartError) -> CommandError {
    if let StartError::Listen(bind) = &error
        && bind.error().kind() == std::io::ErrorKind::AddrInUse
    {
        let (address, error) = (bind.address(), bind.error());
        let help =
            "choose other ports: homing demo --address 127.0.0.1:8081 --admin 127.0.0.1:9181";
        return CommandError::Failed(format!(
            "cannot listen on {address}: {error}\n  = help: {help}"
        ));
    }
    CommandError::Start(error)
}

/// A directory for the key of this demo, gone with it.
struct TempDir(std::path::PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

fn tempdir() -> std::io::Result<TempDir> {
    use std::os::unix::fs::DirBuilderExt;
    let path = std::env::temp_dir().join(format!("homing-demo-{}", uuid::Uuid::new_v4()));
    std::fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(TempDir(path))
}

fn welcome(address: SocketAddr, admin: SocketAddr, made: Option<&Made>) -> String {
    let (site, believe) = match made {
        // By the name: what is asked for by an address says none in the handshake.
        Some(made) => (
            format!("https://localhost:{}", address.port()),
            format!("\x20 export CURL_CA_BUNDLE={}\n", made.path.display()),
        ),
        None => (format!("http://{address}"), String::new()),
    };
    let warning = made.map_or_else(String::new, |made| {
        format!(
            " The browser warns, since nobody vouches for a certificate\n\
             made a moment ago for localhost. It is the right one if its SHA-256 fingerprint is\n\n\x20 {}\n\n\
             Go on then (\"Advanced\", \"Proceed\"): for this demo only. A real site takes one of an authority:\n\
             docs/tls.md.",
            made.fingerprint
        )
    });
    format!(
        "Homing serves three backends at {site}/ . Try:\n\
         \n{believe}\
         \x20 curl -i {site}/                        a backend is drawn, and a cookie says which\n\
         \x20 for i in 1 2 3 4; do curl -s {site}/; done          without the cookie: any backend\n\
         \x20 for i in 1 2 3 4; do curl -s -b /tmp/jar -c /tmp/jar {site}/; done   with it: always home\n\
         \x20 curl -s {site}/crash -b /tmp/jar        the home of this cookie fails for 10 seconds:\n\
         \x20                                                  ask on for seconds: the pin moves, with its cause\n\
         \x20 curl -s http://{admin}/metrics | grep affinity   what became of every request\n\
         \x20 curl -s http://{admin}/status                    apps, backends, health\n\
         \n\
         Or open {site}/ in a browser and reload.{warning} Each line below is one request. Ctrl-C ends it.\n\n"
    )
}

/// What the demo's listener is told where it speaks TLS. Paths start at the directory of the demo.
const LISTENER: &str = "    tls: { certificates: [{ certificate: demo.pem, key: demo.key }] }\n";

const DAY: Duration = Duration::from_secs(86_400);

/// How long the certificate of a demo is valid, in days.
const DAYS: u32 = 30;

/// The certificate of a demo. It stands in the demo's directory and is gone with it.
struct Made {
    path: std::path::PathBuf,
    fingerprint: Fingerprint,
}

impl Made {
    fn new(directory: &Path, address: SocketAddr) -> io::Result<Self> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
        let own = address.ip().to_string();
        if !names.contains(&own) && !address.ip().is_unspecified() {
            names.push(own);
        }
        let (certificate, key) = certificate(names).map_err(io::Error::other)?;
        let path = directory.join("demo.pem");
        write_secret(&directory.join("demo.key"), &key.serialize_pem())?;
        std::fs::write(&path, certificate.pem())?;
        Ok(Self { path, fingerprint: Fingerprint::of(certificate.der()) })
    }
}

/// A certificate that signs itself, valid from yesterday on: clocks differ.
fn certificate(names: Vec<String>) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Homing demo");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = Clock::start().unix();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + DAYS * DAY;
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?, key))
}
