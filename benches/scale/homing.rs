//! The process that is measured.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::fleet::{Fleet, Site};
use crate::{Outcome, Plan};

/// How long anything may take before it counts as broken.
const LIMIT: Duration = Duration::from_secs(120);

/// Files that are wanted open at once, for 20,000 clients on both sides.
const DESCRIPTORS: u64 = 65_536;

/// The unit of `/proc/PID/stat`: 100 a second on every architecture we build for.
const TICKS_A_SECOND: f64 = 100.0;

/// Takes as many descriptors as are wanted, or as there are; children have the same.
pub(crate) fn raise_descriptors() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS);
    for limit in [hard.max(DESCRIPTORS), hard] {
        let wanted = Rlimit { current: Some(limit), maximum: Some(limit) };
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            return limit;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(1024)
}

/// A running Homing, ended when this is dropped.
pub(crate) struct Homing {
    child: Child,
    program: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) listener: SocketAddr,
    pub(crate) admin: SocketAddr,
    fleet: Fleet,
    backends: Vec<SocketAddr>,
    probed: bool,
    state_dir: PathBuf,
    /// From its start to its first answer.
    pub(crate) started: Cost,
}

/// What something took: time on the wall, and of processors.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) processor: f64,
}

impl Homing {
    /// Starts it and waits for its first answer.
    pub(crate) fn start(
        plan: &Plan,
        fleet: Fleet,
        backends: &[SocketAddr],
        probed: bool,
    ) -> Outcome<Self> {
        let state_dir = plan.directory.join("state");
        let _there_was_none = fs::remove_dir_all(&state_dir);
        let file = plan.directory.join("fleet.yaml");
        let (listener, admin) = (free_port()?, free_port()?);
        let site = Site { state_dir: &state_dir, listener, admin, backends, probed };
        fs::write(&file, fleet.yaml(&site, 0))?;
        let log = fs::File::create(plan.directory.join("homing.log"))?;
        let begun = Instant::now();
        let mut command = Command::new(&plan.program);
        command.args(["run", "-c"]).arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let (program, backends) = (plan.program.clone(), backends.to_vec());
        let started = Cost::default();
        let mut homing = Self {
            child,
            program,
            file,
            listener,
            admin,
            fleet,
            backends,
            probed,
            state_dir,
            started,
        };
        loop {
            if get(listener, &Fleet::host(fleet.apps - 1), "/").is_ok_and(|answer| answer.0 == 200)
            {
                break;
            }
            if begun.elapsed() > LIMIT || homing.child.try_wait()?.is_some() {
                return Err("Homing does not serve: see target/scale/homing.log".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        homing.started =
            Cost { wall: begun.elapsed().as_secs_f64(), processor: homing.processor() };
        Ok(homing)
    }

    /// Writes the file again, with something else in one app.
    pub(crate) fn edit(&self, release: usize) -> Outcome<()> {
        let site = Site {
            state_dir: &self.state_dir,
            listener: self.listener,
            admin: self.admin,
            backends: &self.backends,
            probed: self.probed,
        };
        Ok(fs::write(&self.file, self.fleet.yaml(&site, release))?)
    }

    /// Runs a command of Homing with its file. The time of processors is that of those who serve, not of the command.
    pub(crate) fn command(&self, words: &[&str]) -> Outcome<Cost> {
        let (begun, before) = (Instant::now(), self.processor());
        let mut command = Command::new(&self.program);
        command.args(words).arg("-c").arg(&self.file).stdin(Stdio::null());
        let output = command.output()?;
        // `plan` says by 1 or 3 that something changes.
        if !output.status.success() && words != ["plan"] {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("homing {}: {said}", words.join(" ")).into());
        }
        let processor = self.processor() - before;
        Ok(Cost { wall: begun.elapsed().as_secs_f64(), processor })
    }

    /// Seconds of processors that those who serve had, those that ended included.
    pub(crate) fn processor(&self) -> f64 {
        self.pids().iter().filter_map(|pid| processor_of(*pid)).sum()
    }

    /// Resident memory of those who serve, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        let status = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).ok();
        self.pids().iter().filter_map(status).filter_map(|text| resident_of(&text)).sum()
    }

    /// How many processes there are: the supervisor, and those who serve.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        std::iter::once(own)
            .chain(children.split_whitespace().filter_map(|p| p.parse().ok()))
            .collect()
    }
}

impl Drop for Homing {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // Interrupted, it ends at once, and its workers with it.
        let _gone = pid.map(|pid| kill_process(pid, Signal::INT));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn processor_of(pid: u32) -> Option<f64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|own| own / TICKS_A_SECOND)
}

/// Ticks of a process and of its children that ended (proc_pid_stat(5), fields 14 to 17).
pub(crate) fn ticks(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let times = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok());
    times.sum()
}

/// Resident memory in MiB, of `/proc/PID/status`.
pub(crate) fn resident_of(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// An address of this machine that nobody has at present.
fn free_port() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// One request on a connection of its own: the status, and how many bytes came.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Outcome<(u16, usize)> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let (mut buffer, mut head, mut total) = (vec![0; 1 << 16], Vec::new(), 0);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if head.len() < 64 {
            head.extend_from_slice(&buffer[..read.min(64)]);
        }
        total += read;
    }
    let text = String::from_utf8_lossy(&head);
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or("no answer")?, total))
}

/// The length of a file in MiB.
pub(crate) fn length(path: &Path) -> f64 {
    fs::metadata(path).map_or(0.0, |file| file.len() as f64 / f64::from(1 << 20))
}
