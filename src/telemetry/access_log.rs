//! One line per request, written off the request path.
//!
//! A request appends its line to one of a few buffers and goes on; a thread of the log takes the
//! buffers away and writes them. Logging never blocks a request: a line that finds its buffer full
//! is dropped and counted.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::record::RequestRecord;
use super::trace::TraceId;
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::assign::{Cause, Outcome};
use crate::balancer::failure::{Level, Party};
use crate::config::model::{AccessLog as Settings, LogFormat, LogTarget};

/// Most bytes that wait in one buffer. A second of 20,000 requests is about 8 MiB in all.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// Buffers, so that threads seldom meet.
const BUFFERS: usize = 8;

/// How long lines gather before they are written: one write for many lines.
const GATHER: Duration = Duration::from_millis(20);

/// How long the writer waits for more at most; also how late it sees that a file is to be reopened.
const REST: Duration = Duration::from_millis(500);

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    /// A [`LogFormat`], as its place in [`FORMATS`].
    format: AtomicU8,
    buffers: [Mutex<Vec<u8>>; BUFFERS],
    dropped: AtomicU64,
    failed: AtomicU64,
    reopen: AtomicBool,
    /// Where lines go from now on, when that changed, and those that still go where they went before.
    next: Mutex<Vec<(Vec<u8>, Output)>>,
    ending: AtomicBool,
    /// Whether the writer sleeps and is to be woken by the next line.
    resting: AtomicBool,
    writer: Mutex<Option<Writer>>,
}

/// Every format, by its number.
const FORMATS: [LogFormat; 3] = [LogFormat::Heroku, LogFormat::Json, LogFormat::Off];

fn number(format: LogFormat) -> u8 {
    FORMATS
        .iter()
        .zip(0..)
        .find_map(|(own, number)| (*own == format).then_some(number))
        .unwrap_or(0)
}

/// Another way to log, whose file is open already.
#[derive(Debug)]
pub struct Prepared {
    format: LogFormat,
    output: Output,
}

impl Prepared {
    /// Opens what is to be written to.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let output = match settings.format {
            LogFormat::Off => Output::Stdout,
            LogFormat::Heroku | LogFormat::Json => Output::open(&settings.target)?,
        };
        Ok(Self { format: settings.format, output })
    }
}

#[derive(Debug)]
struct Writer {
    thread: Thread,
    handle: JoinHandle<()>,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(settings: &Settings) -> io::Result<Arc<Self>> {
        let prepared = Prepared::new(settings)?;
        let log = Arc::new(Self {
            format: AtomicU8::new(number(LogFormat::Off)),
            buffers: std::array::from_fn(|_| Mutex::new(Vec::new())),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            reopen: AtomicBool::new(false),
            next: Mutex::new(Vec::new()),
            ending: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            writer: Mutex::new(None),
        });
        log.change(prepared)?;
        Ok(log)
    }

    /// Logs another way from now on. Lines that wait are written the way before.
    ///
    /// # Errors
    /// When a writer is needed and the system refuses the thread.
    pub fn change(self: &Arc<Self>, prepared: Prepared) -> io::Result<()> {
        let Prepared { format, output } = prepared;
        let mut writer = lock(&self.writer);
        // No line comes between: each goes where its form belongs.
        let mut buffers: Vec<_> = self.buffers.iter().map(lock).collect();
        if writer.is_some() {
            let waiting = buffers.iter_mut().flat_map(|buffer| std::mem::take(&mut **buffer));
            lock(&self.next).push((waiting.collect(), output));
        } else if format != LogFormat::Off {
            let own = Arc::clone(self);
            let thread = thread::Builder::new().name("access-log".into());
            let handle = thread.spawn(move || own.run(output))?;
            *writer = Some(Writer { thread: handle.thread().clone(), handle });
        }
        self.format.store(number(format), Ordering::Relaxed);
        drop(buffers);
        drop(writer);
        self.wake();
        Ok(())
    }

    fn format(&self) -> LogFormat {
        FORMATS[usize::from(self.format.load(Ordering::Relaxed)) % FORMATS.len()]
    }

    /// Writes the line of a request.
    pub fn write(&self, record: &RequestRecord<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let is_done = |line: &mut Vec<u8>| {
            line.clear();
            let format = self.format();
            // Writing to memory cannot fail.
            let _infallible = match format {
                LogFormat::Heroku => heroku(record, line),
                LogFormat::Json => json(record, line),
                LogFormat::Off => return true,
            };
            self.append(format, line)
        };
        while self.format() != LogFormat::Off && !LINE.with_borrow_mut(is_done) {}
    }

    /// Whether the format is still this one, so that the line found its place.
    fn append(&self, format: LogFormat, line: &[u8]) -> bool {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        let mut buffer = lock(&self.buffers[OWN.with(|own| own % BUFFERS)]);
        if self.format() != format {
            return false;
        }
        if buffer.len() + line.len() > BUFFER_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        buffer.extend_from_slice(line);
        drop(buffer);
        if self.resting.swap(false, Ordering::Relaxed) {
            self.wake();
        }
        true
    }

    /// Lines that found their buffer full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Opens the file again, for a rotation that moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Writes what is left and ends the writer.
    pub fn close(&self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(writer) = lock(&self.writer).take() {
            writer.thread.unpark();
            let _panicked = writer.handle.join();
        }
    }

    fn wake(&self) {
        if let Some(writer) = lock(&self.writer).as_ref() {
            writer.thread.unpark();
        }
    }

    fn run(&self, mut output: Output) {
        let mut taken = Vec::new();
        loop {
            let ending = self.ending.load(Ordering::Relaxed);
            if self.reopen.swap(false, Ordering::Relaxed) {
                self.note(output.reopen());
            }
            let mut written = 0;
            for buffer in &self.buffers {
                let changes = {
                    let mut lines = lock(buffer);
                    std::mem::swap(&mut *lines, &mut taken);
                    // None comes while that is locked: what was taken belongs behind the last.
                    std::mem::take(&mut *lock(&self.next))
                };
                for (waiting, next) in changes {
                    self.note(output.write(&waiting));
                    output = next;
                }
                written += taken.len();
                self.note(output.write(&taken));
                taken.clear();
            }
            if ending {
                return;
            }
            if written > 0 {
                thread::sleep(GATHER);
            } else {
                self.resting.store(true, Ordering::Relaxed);
                thread::park_timeout(REST);
                self.resting.store(false, Ordering::Relaxed);
            }
        }
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result
            && self.failed.fetch_add(1, Ordering::Relaxed).is_power_of_two()
        {
            tracing::error!(%error, failures = self.failed(), "cannot write the access log");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where lines go.
#[derive(Debug)]
enum Output {
    File(PathBuf, File),
    Stdout,
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::File(path) => Ok(Self::File(path.clone(), append_to(path)?)),
            LogTarget::Stdout => Ok(Self::Stdout),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(path, file) = self {
            *file = append_to(path)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(_, file) => file.write_all(lines),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The fields of a JSON line.
#[derive(Serialize)]
struct Line<'r> {
    time: String,
    at: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    desc: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    method: &'r str,
    path: std::borrow::Cow<'r, str>,
    host: std::borrow::Cow<'r, str>,
    request_id: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
    client: Option<std::net::IpAddr>,
    fwd: std::borrow::Cow<'r, str>,
    app: Option<&'r str>,
    backend: Option<&'r str>,
    affinity: Option<&'static str>,
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<&'r str>,
    tries: usize,
    #[serde(skip_serializing_if = "Ids::is_empty")]
    tried: Ids<'r>,
    connect_ms: Option<u128>,
    first_byte_ms: Option<u128>,
    service_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgraded_ms: Option<u128>,
    duration_ms: u128,
    status: u16,
    bytes: usize,
    bytes_received: usize,
    protocol: &'static str,
    tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_name: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_client: Option<&'r str>,
}

/// The backends that were tried in vain, as a list.
struct Ids<'r>(&'r RequestRecord<'r>);

impl Ids<'_> {
    fn is_empty(&self) -> bool {
        self.0.tried().next().is_none()
    }
}

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.tried())
    }
}

fn json(record: &RequestRecord<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    let millis = |duration: Option<Duration>| duration.map(|duration| duration.as_millis());
    let fields = Line {
        time: time(record.time),
        at: level(record),
        code: record.failure.map(|facts| facts.code),
        desc: record.failure.map(|facts| facts.text),
        failure: record.failure.map(|facts| facts.label),
        detail: record.detail,
        method: record.method,
        path: String::from_utf8_lossy(record.path),
        host: String::from_utf8_lossy(record.host),
        request_id: record.request_id,
        trace_id: record.trace_id,
        client: record.client,
        fwd: String::from_utf8_lossy(record.forwarded_for),
        app: record.app,
        backend: record.backend,
        affinity: record.outcome.map(Outcome::as_str),
        cause: record.cause.map(Cause::as_str),
        adopted: record.adopted,
        tries: record.tries,
        tried: Ids(record),
        connect_ms: millis(record.connect),
        first_byte_ms: millis(record.first_byte),
        service_ms: millis(record.service),
        upgraded_ms: millis(record.upgraded),
        duration_ms: record.duration.as_millis(),
        status: record.logged_status(),
        bytes: record.bytes_sent,
        bytes_received: record.bytes_received,
        protocol: record.protocol,
        tls: record.scheme == Scheme::Https,
        tls_version: record.tls_version,
        tls_name: record.tls_name,
        tls_client: record.tls_client,
    };
    serde_json::to_writer(&mut *line, &fields)?;
    line.push(b'\n');
    Ok(())
}

/// The line of the Heroku router, to the letter, followed by our own fields.
fn heroku(record: &RequestRecord<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    if let Some(facts) = record.failure {
        match facts.party {
            Party::Client => line.extend_from_slice(b"sock=client "),
            Party::Backend => line.extend_from_slice(b"sock=backend "),
            Party::Edge | Party::Operator => {}
        }
    }
    write!(line, "at={}", level(record))?;
    if let Some(facts) = record.failure {
        write!(line, " code={} desc=\"{}\"", facts.code, facts.text)?;
    }
    if let Some(detail) = record.detail {
        write!(line, " cause=\"{detail}\"")?;
    }
    write!(line, " method={} path=", record.method)?;
    quoted(record.path, line);
    line.extend_from_slice(b" host=");
    line.extend(record.host.iter().filter(|byte| byte.is_ascii_graphic()));
    write!(line, " request_id={} fwd=", record.request_id)?;
    quoted(record.forwarded_for, line);
    write!(line, " dyno={} connect=", record.backend.unwrap_or(""))?;
    millis(record.connect, line)?;
    line.extend_from_slice(b" service=");
    millis(record.service, line)?;
    write!(line, " status={} bytes={}", record.logged_status(), record.bytes_sent)?;
    write!(line, " protocol={} tls={}", record.protocol, record.scheme == Scheme::Https)?;
    if record.scheme == Scheme::Https {
        write!(line, " tls_version={}", record.tls_version.unwrap_or("unknown"))?;
    }
    write!(line, " app={}", record.app.unwrap_or(""))?;
    write!(line, " affinity={}", record.outcome.map_or("", Outcome::as_str))?;
    write!(line, " affinity_cause={}", record.cause.map_or("", Cause::as_str))?;
    write!(line, " tries={} first_byte=", record.tries)?;
    millis(record.first_byte, line)?;
    write!(line, " bytes_received={}", record.bytes_received)?;
    seldom(record, line)?;
    line.push(b'\n');
    Ok(())
}

/// What few lines have.
fn seldom(record: &RequestRecord<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    for (number, id) in record.tried().enumerate() {
        write!(line, "{}{id}", if number == 0 { " tried=" } else { "," })?;
    }
    if record.upgraded.is_some() {
        line.extend_from_slice(b" upgraded=");
        millis(record.upgraded, line)?;
    }
    if let Some(facts) = record.failure {
        write!(line, " failure={}", facts.label)?;
    }
    if let Some(trace) = record.trace_id {
        write!(line, " trace_id={trace}")?;
    }
    Ok(())
}

fn millis(duration: Option<Duration>, line: &mut Vec<u8>) -> io::Result<()> {
    match duration {
        Some(duration) => write!(line, "{}ms", duration.as_millis()),
        None => Ok(()),
    }
}

/// Text between quotes; what would end them early or begin a new line is percent-encoded.
fn quoted(text: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                // Writing to memory cannot fail.
                let _infallible = write!(line, "%{byte:02X}");
            }
            byte => line.push(*byte),
        }
    }
    line.push(b'"');
}

fn level(record: &RequestRecord<'_>) -> &'static str {
    record.failure.map_or(Level::Info, |facts| facts.level).as_str()
}

/// A time since 1970 as RFC 3339 has it, in UTC, with milliseconds.
fn time(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(0);
    let nanos = i32::try_from(unix.subsec_millis()).unwrap_or(0) * 1_000_000;
    match jiff::Timestamp::new(seconds, nanos) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::failure::{Facts, Failure};
    use crate::telemetry::trace::TraceParent;

    fn record(failure: Option<Facts>) -> RequestRecord<'static> {
        RequestRecord {
            time: Duration::from_millis(1_795_000_000_123),
            method: "GET",
            path: b"/a\"b?c=d",
            host: b"shop.example.com",
            request_id: "6903a168-b79b-ec27-03c8-b8f64d8d8792",
            client: Some([192, 0, 2, 7].into()),
            forwarded_for: b"192.0.2.7",
            app: Some("shop"),
            backend: Some("web.1"),
            outcome: Some(Outcome::Moved),
            cause: Some(Cause::Unhealthy),
            adopted: None,
            tries: 1,
            tried: None,
            upgraded: None,
            trace_id: None,
            connect: Some(Duration::ZERO),
            service: Some(Duration::from_millis(3)),
            first_byte: Some(Duration::from_millis(2)),
            duration: Duration::from_millis(3),
            status: Some(200),
            bytes_sent: 1024,
            bytes_received: 0,
            protocol: "http1.1",
            scheme: Scheme::Http,
            tls_version: None,
            tls_name: None,
            tls_client: None,
            failure,
            detail: None,
        }
    }

    #[test]
    fn the_line_of_the_heroku_router_is_kept_and_continued() {
        let mut line = Vec::new();
        heroku(&record(None), &mut line).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "at=info method=GET path=\"/a%22b?c=d\" host=shop.example.com \
             request_id=6903a168-b79b-ec27-03c8-b8f64d8d8792 fwd=\"192.0.2.7\" dyno=web.1 connect=0ms \
             service=3ms status=200 bytes=1024 protocol=http1.1 tls=false app=shop affinity=moved \
             affinity_cause=unhealthy tries=1 first_byte=2ms bytes_received=0\n"
        );
    }

    #[test]
    fn a_failure_names_the_party_the_code_and_the_reason() {
        let mut line = Vec::new();
        heroku(&record(Some(Failure::FirstByteTimeout.facts())), &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.starts_with("sock=backend at=error code=H12 desc=\"Request timeout\" method=GET"),
            "{line}"
        );
    }

    #[test]
    fn the_cause_of_a_failure_stands_where_the_heroku_router_has_it_and_once() {
        let mut line = Vec::new();
        let failure = Some(Failure::BadChunk.facts());
        let parent = TraceParent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let trace_id = parent.map(|parent| parent.trace);
        let bad = RequestRecord { detail: Some("bad chunk"), trace_id, ..record(failure) };
        heroku(&bad, &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        let begin =
            "sock=client at=warning code=H26 desc=\"Request Error\" cause=\"bad chunk\" method=GET";
        assert!(line.starts_with(begin), "{line}");
        assert_eq!(line.matches(" cause=").count(), 1, "{line}");
        let end = " failure=bad_chunk trace_id=0af7651916cd43dd8448eb211c80319c\n";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn a_json_line_is_one_object_with_its_time() {
        let mut line = Vec::new();
        json(&record(None), &mut line).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["time"], "2026-11-18T11:06:40.123Z");
        assert_eq!(value["path"], "/a\"b?c=d");
        assert_eq!(value["affinity"], "moved");
        assert!(value.get("code").is_none());
    }
}
