//! Traefik with `sticky.cookie`, whose value is a hash of the backend's address.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, HOST, Setup, app_host},
};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::given_program("traefik")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let write = |name: &str, text: String| {
        let file = site.directory.join(name);
        fs::write(&file, text).context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    let routes = write("routes.yaml", routes(site))?;
    let text = format!(
        "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
log: {{ level: ERROR }}
entryPoints:
  web: {{ address: \"{}\" }}
  secure: {{ address: \"{}\" }}
providers: {{ file: {{ filename: {}, watch: false }} }}
",
        site.listen,
        site.secure_listen,
        routes.display()
    );
    let mut command = Command::new(&site.program);
    command.arg("--configFile").arg(write("traefik.yaml", text)?).env("GOMAXPROCS", "1");
    Ok(command)
}

fn routes(site: &Site) -> String {
    let servers: String =
        site.backends.iter().map(|it| format!("{{ url: \"http://{it}\" }}, ")).collect();
    let router = |name: &str, host: &str| {
        format!("    {name}: {{ rule: \"Host(`{host}`)\", entryPoints: [web], service: shop }}\n")
    };
    let (routers, probes) = match site.setup {
        Setup::Shop => (
            router("shop", HOST)
                + &format!(
                    "    shop-tls: {{ rule: \"Host(`{HOST}`)\", entryPoints: [secure], service: shop, tls: {{}} }}\n"
                ),
            "        healthCheck: { path: /healthz, interval: 2s, timeout: 1s }\n",
        ),
        Setup::Apps => {
            ((0..APPS).map(|it| router(&format!("app-{it}"), &app_host(it))).collect(), "")
        }
    };
    format!(
        "http:
  routers:
{routers}  services:
    shop:
      loadBalancer:
        sticky: {{ cookie: {{ name: route, httpOnly: true, sameSite: lax }} }}
{probes}        servers: [{servers}]
tls:
  certificates: [{{ certFile: {}, keyFile: {} }}]
  options: {{ default: {{ minVersion: VersionTLS13 }} }}
",
        site.certificate.chain.display(),
        site.certificate.key.display(),
    )
}
