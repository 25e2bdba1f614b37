//! `homing demo`

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use clap::Args;

use super::{CommandError, print};
use crate::app::{Edge, StartError, extra_service};
use crate::config;
use crate::demo::DemoBackend;
use crate::telemetry::logging;

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
}

impl Demo {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let listeners: Vec<TcpListener> = (0..BACKENDS)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let state = tempdir().map_err(refused)?;
        let source = self.file(&listeners, &state.0);
        let config = config::parse(Path::new("demo.yaml"), source).map_err(CommandError::Config)?;
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
        print(&welcome(address, admin))?;
        edge.run().map_err(CommandError::Start)
    }

    fn file(&self, backends: &[TcpListener], state: &Path) -> String {
        let mut file = format!(
            "state_dir: {}\nadmin: {{ address: \"{}\" }}\naccess_log: {{ format: heroku }}\n\
             server: {{ threads: 2, grace_period: 2s }}\nlisteners:\n  - address: \"{}\"\ndefault_app: demo\n\
             apps:\n  - name: demo\n    health: {{ path: /healthz, interval: 1s }}\n    backends:\n",
            state.display(),
            self.admin,
            self.address,
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

fn welcome(address: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "Homing serves three backends at http://{address}/ . Try:\n\
         \n\
         \x20 curl -i http://{address}/                        a backend is drawn, and a cookie says which\n\
         \x20 for i in 1 2 3 4; do curl -s http://{address}/; done          without the cookie: any backend\n\
         \x20 for i in 1 2 3 4; do curl -s -b /tmp/jar -c /tmp/jar http://{address}/; done   with it: always home\n\
         \x20 curl -s http://{address}/crash -b /tmp/jar        the home of this cookie fails for 10 seconds:\n\
         \x20                                                  ask on for seconds: the pin moves, with its cause\n\
         \x20 curl -s http://{admin}/metrics | grep affinity   what became of every request\n\
         \x20 curl -s http://{admin}/status                    apps, backends, health\n\
         \n\
         Or open http://{address}/ in a browser and reload. Each line below is one request. Ctrl-C ends it.\n\n"
    )
}
