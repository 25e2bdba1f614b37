//! A generator of load of our own, in a process of its own, whose processor time can be told from everybody else's.
//!
//! At a fixed rate its schedule does not wait for answers: the latency of a request counts from when it was due, so a
//! proxy that stalls is charged for every request that should have been sent meanwhile (no coordinated omission).
//! Clients keep their cookies and remember who answered, so that lost sessions are counted.
//!
//! ```text
//! let mut load = Load::start(&spec, placement, &guard)?;
//! load.interval()?;                  // what was so far, such as a warm-up
//! sleep(seconds);
//! let interval = load.interval()?;   // latencies and counters since then
//! drop(load);                        // or load.processor_time() before
//! ```
//!
//! [`spec`] says what can be sent, [`interval`] what is counted; [`engine`] runs in the child, on [`link`]s whose
//! [`answer`]s it reads.

mod answer;
mod engine;
mod histogram;
mod interval;
mod link;
mod request;
mod sample;
mod selfcheck;
mod spec;
mod tickets;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

use self::{engine::Engine, link::Secure, tickets::Tickets};
pub(crate) use self::{
    interval::Interval,
    sample::{Outcome, Sample, Trouble, since_epoch},
    selfcheck::checks,
    spec::{Client, Exchange, Life, Pace, Spec, Tls},
};
use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel::{self, ProcessorTime},
    plan::Placement,
    topology,
};

/// The argument that makes this program a generator.
pub(crate) const ARGUMENT: &str = "--generate";

/// A running generator. Dropping it ends it.
pub(crate) struct Load {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    guard: Rc<Guard>,
}

impl Load {
    /// Starts to send at once.
    pub(crate) fn start(
        spec: &Spec,
        placement: Placement,
        guard: &Rc<Guard>,
    ) -> Result<Self, Failure> {
        let failed = || "cannot start the generator".to_owned();
        let mut command = Command::new(env::current_exe().context(failed)?);
        command.arg(ARGUMENT);
        let mut command = topology::beside_proxy(command, placement);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context(failed)?;
        guard.started(child.id());
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (commands, answers) = pipes.ok_or_else(|| Failure::new(failed()))?;
        let mut load =
            Self { child, commands, answers: BufReader::new(answers), guard: Rc::clone(guard) };
        let text = serde_json::to_string(spec).context(failed)?;
        load.say(&text)?;
        Ok(load)
    }

    /// What happened since the last time this was asked, or since the start. It stands still for at most 5 ms.
    pub(crate) fn interval(&mut self) -> Result<Interval, Failure> {
        self.say("")?;
        let mut line = String::new();
        let failed = || "the generator does not answer; see above".to_owned();
        self.answers.read_line(&mut line).context(failed)?;
        serde_json::from_str(&line).context(failed)
    }

    /// What the generator itself used since its start.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        kernel::tree_time(self.child.id())
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.commands, "{line}").context(|| "the generator is gone".to_owned())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.guard.ended(self.child.id());
    }
}

/// The child: reads the load from its standard input, then an empty line for each interval that is asked for.
pub(crate) fn run() -> Result<(), Failure> {
    let mut input = String::new();
    io::stdin().read_line(&mut input).context(|| "cannot read the load".to_owned())?;
    let spec: Spec = serde_json::from_str(&input).context(|| "cannot read the load".to_owned())?;
    let secure = spec.tls.as_ref().map(secure).transpose()?;
    let (sender, commands) = mpsc::channel();
    thread::spawn(move || {
        // Ends with the pipe; then the sender goes, and the engine with it.
        for line in io::stdin().lines() {
            if line.is_err() || sender.send(()).is_err() {
                return;
            }
        }
    });
    let tell = |interval: &Interval| {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, interval)?;
        out.write_all(b"\n")?;
        out.flush()
    };
    let run = Engine::new(spec, secure).and_then(|mut engine| engine.run(&commands, tell));
    run.context(|| "the generator failed".to_owned())
}

fn secure(tls: &Tls) -> Result<Secure, Failure> {
    let failed = || format!("cannot use the certificate {}", tls.trusted.display());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(fs::read(&tls.trusted).context(failed)?)).context(failed)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).context(failed)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match tls.resumes {
        true => Resumption::store(Arc::new(Tickets::default())),
        false => Resumption::disabled(),
    };
    let name = ServerName::try_from(tls.name.clone()).context(failed)?;
    Ok(Secure { config: Arc::new(config), name })
}
