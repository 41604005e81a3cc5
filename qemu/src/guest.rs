//! A running guest: its serial line, its control channel, its ports and its end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::disk::Disk;
use crate::error::{Error, Result, SerialTail, describe_exit};
use crate::firmware::Prepared;
use crate::machine::Machine;
use crate::qmp::{Event, Failure, Qmp};
use crate::serial::{NoLine, Serial, SerialSink};
use crate::{process, usernet};

/// Between QEMU closing its sockets and its exit lie microseconds; this is for a loaded host.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// What QEMU says about itself on stderr is a line or two; more is not kept.
const STDERR_LIMIT: u64 = 64 * 1024;

/// A QEMU that runs a guest. Dropping it kills it.
///
/// All methods take `&self`, so that tests can share one guest between threads.
pub struct Guest {
    child: Mutex<Child>,
    qmp: Qmp,
    serial: Arc<Serial>,
    /// Where the serial line is typed into.
    keyboard: Mutex<UnixStream>,
    /// Where [`Guest::wait_line`] goes on reading.
    cursor: AtomicU64,
    stderr: Mutex<StderrReader>,
    ports: Vec<usernet::PortPair>,
    forwarded: Vec<u16>,
    started: Instant,
    /// Its flash memory lives as long as it does.
    _firmware: Prepared,
}

impl Guest {
    pub(crate) fn start(
        machine: &Machine,
        firmware: Prepared,
        sink: Option<SerialSink>,
    ) -> Result<Self> {
        let log = machine.serial_path().map(create_log).transpose()?;
        let pair = |act| UnixStream::pair().map_err(|source| Error::Plumbing { act, source });
        let (qmp_ours, qmp_theirs) = pair("create the QMP socket")?;
        let (serial_ours, serial_theirs) = pair("create the serial socket")?;

        let emulator = machine.emulator();
        let mut command = process::command(emulator);
        command
            .args(machine.arguments(&firmware))
            .stdin(Stdio::from(OwnedFd::from(qmp_theirs)))
            .stdout(Stdio::from(OwnedFd::from(serial_theirs)))
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = Reaped(Some(process::spawn(emulator, command)?));

        let serial = Serial::new(machine.serial_path().map(Path::to_path_buf));
        let stderr = StderrReader::start(child.get().and_then(|child| child.stderr.take()))?;
        let keyboard = serial_ours.try_clone().map_err(|source| Error::Plumbing {
            act: "clone the serial socket",
            source,
        })?;
        let reader = Arc::clone(&serial);
        // The thread ends by itself when QEMU's end of the socket closes.
        start_thread("serial", move || reader.read(serial_ours, log, sink))?;

        let qmp = match Qmp::connect(qmp_ours) {
            Ok(qmp) => qmp,
            Err(failure) => return Err(child.explain(failure, stderr, &serial)),
        };
        let mut guest = Guest {
            child: Mutex::new(child.take()),
            qmp,
            serial,
            keyboard: Mutex::new(keyboard),
            cursor: AtomicU64::new(0),
            stderr: Mutex::new(stderr),
            ports: Vec::new(),
            forwarded: machine.forwarded_ports(),
            started,
            _firmware: firmware,
        };
        if !guest.forwarded.is_empty() {
            let text = guest.qmp(
                "human-monitor-command",
                json!({ "command-line": "info usernet" }),
            )?;
            guest.ports = usernet::parse(text.as_str().unwrap_or_default());
        }
        Ok(guest)
    }

    /// The first line not yet passed by an earlier call that `wanted` accepts. `what` names it
    /// in errors. Lines before it are passed; when none comes, no line is passed.
    pub fn wait_line(
        &self,
        what: &str,
        mut wanted: impl FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<String> {
        let cursor = self.cursor.load(Ordering::SeqCst);
        let (line, next) = self.wait_line_from(cursor, what, &mut wanted, limit)?;
        self.cursor.fetch_max(next, Ordering::SeqCst);
        Ok(line)
    }

    /// As [`Guest::wait_line`], from a place of the caller's own (0 is the guest's start), and
    /// with the place after the line: for tests that share a guest.
    pub fn wait_line_from(
        &self,
        cursor: u64,
        what: &str,
        mut wanted: impl FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<(String, u64)> {
        match self.serial.wait_line(cursor, &mut wanted, limit) {
            Ok(found) => Ok(found),
            Err(NoLine::Timeout) => Err(self.timeout(what, limit)),
            Err(NoLine::Closed) => Err(self.ended(what)),
        }
    }

    /// The place after the last line so far, for [`Guest::wait_line_from`].
    pub fn serial_end(&self) -> u64 {
        self.serial.end()
    }

    /// The lines so far (the last 20,000 of them).
    pub fn serial_lines(&self) -> Vec<String> {
        self.serial.lines()
    }

    /// How long after QEMU's start the first line came that `wanted` accepts; `None` when it has
    /// not come, or when more than 20,000 lines have come since.
    pub fn line_time(&self, wanted: impl FnMut(&str) -> bool) -> Option<Duration> {
        let seen = self.serial.first_time(wanted)?;
        Some(seen.saturating_duration_since(self.started))
    }

    /// The last lines and the log's path, for a failure's message.
    pub fn serial_tail(&self) -> SerialTail {
        self.serial.tail()
    }

    /// When QEMU was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The port of 127.0.0.1 that leads to this guest port.
    pub fn host_port(&self, guest_port: u16) -> Result<u16> {
        self.ports
            .iter()
            .find(|pair| pair.guest == guest_port)
            .map(|pair| pair.host)
            .ok_or_else(|| Error::NotForwarded {
                port: guest_port,
                forwarded: self.forwarded.clone(),
            })
    }

    /// The address that leads to this guest port.
    pub fn address(&self, guest_port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            self.host_port(guest_port)?,
        )))
    }

    /// Runs a QMP command and returns its answer.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp
            .command(command, arguments)
            .map_err(|failure| self.failed(command, failure))
    }

    /// The first QMP event, past or to come, of this name.
    pub fn wait_event(&self, name: &str, limit: Duration) -> Result<Event> {
        self.qmp
            .wait_event(&|event| event.name == name, limit)
            .map_err(|failure| self.failed(name, failure))
    }

    /// The QMP events so far.
    pub fn events(&self) -> Vec<Event> {
        self.qmp.events()
    }

    /// Presses the ACPI power button.
    pub fn power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", json!({})).map(drop)
    }

    /// Resets the machine at once, as its reset button would.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", json!({})).map(drop)
    }

    /// Types on the serial line.
    pub fn type_serial(&self, text: &str) -> Result<()> {
        let mut keyboard = self
            .keyboard
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        keyboard
            .write_all(text.as_bytes())
            .map_err(|source| Error::Plumbing {
                act: "type on the serial line",
                source,
            })
    }

    /// Sends Linux a magic SysRq by the serial line: a break, and the command's letter. The kernel
    /// takes it where it was started with `sysrq_always_enabled`.
    pub fn magic_sysrq(&self, command: char) -> Result<()> {
        self.qmp("chardev-send-break", json!({ "id": "serial" }))?;
        self.type_serial(&command.to_string())
    }

    /// Makes the disk that was added as the `index`th larger (or smaller) while the guest runs;
    /// its image file changes its size with it. Bytes, a multiple of 512.
    pub fn resize_disk(&self, index: usize, bytes: u64) -> Result<()> {
        let arguments = json!({ "device": Disk::node(index), "size": bytes });
        self.qmp("block_resize", arguments).map(drop)
    }

    /// Ends QEMU at once, as pulling the plug would; returns when it is gone.
    pub fn quit(&self) -> Result<ExitStatus> {
        match self.qmp.command("quit", json!({})) {
            // QEMU may be gone before its answer is.
            Ok(_) | Err(Failure::Closed) => self.wait_exit(EXIT_GRACE),
            Err(failure) => Err(self.failed("quit", failure)),
        }
    }

    /// Waits until QEMU has ended: a guest that powered off, or one that rebooted where
    /// [`Machine::end_on_reboot`] is set.
    pub fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        let what = "end of QEMU";
        let deadline = Instant::now() + limit;
        if self.serial.wait_closed(deadline).is_err() {
            return Err(self.timeout(what, limit));
        }
        let deadline = deadline.max(Instant::now() + EXIT_GRACE);
        loop {
            let waited = self.lock_child().try_wait();
            match waited {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(None) => return Err(self.timeout(what, limit)),
                Err(source) => {
                    return Err(Error::Plumbing {
                        act: "wait for QEMU",
                        source,
                    });
                }
            }
        }
    }

    /// Whether QEMU still runs.
    pub fn is_running(&self) -> bool {
        matches!(self.lock_child().try_wait(), Ok(None))
    }

    /// Kills QEMU; for the signal handler of a program that must end now.
    pub fn kill(&self) {
        let mut child = self.lock_child();
        // It may have ended by itself, which is what was wanted.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn lock_child(&self) -> MutexGuard<'_, Child> {
        self.child
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn timeout(&self, what: &str, limit: Duration) -> Error {
        Error::Timeout {
            what: what.to_string(),
            limit,
            tail: self.serial.tail(),
        }
    }

    fn ended(&self, what: &str) -> Error {
        let status = self.wait_exit(EXIT_GRACE).ok();
        let mut stderr = self
            .stderr
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Error::Ended {
            what: what.to_string(),
            status: describe_exit(status),
            stderr: if status.is_some() {
                stderr.text()
            } else {
                String::new()
            },
            tail: self.serial.tail(),
        }
    }

    fn failed(&self, what: &str, failure: Failure) -> Error {
        match failure {
            Failure::Timeout(limit) => self.timeout(what, limit),
            Failure::Closed => self.ended(what),
            Failure::Error(error) => error,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Guest")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

/// A child that is killed and reaped unless it is taken, while the guest is not whole yet.
struct Reaped(Option<Child>);

impl Reaped {
    fn get(&mut self) -> Option<&mut Child> {
        self.0.as_mut()
    }

    fn take(mut self) -> Child {
        self.0.take().expect("taken only here, by value")
    }

    /// The error of a QEMU that never answered.
    fn explain(mut self, failure: Failure, mut stderr: StderrReader, serial: &Serial) -> Error {
        let what = "its QMP greeting".to_string();
        let tail = serial.tail();
        match failure {
            Failure::Error(error) => error,
            Failure::Timeout(limit) => Error::Timeout { what, limit, tail },
            Failure::Closed => {
                let status = self.get().and_then(|child| child.wait().ok());
                Error::Ended {
                    what,
                    status: describe_exit(status),
                    stderr: stderr.text(),
                    tail,
                }
            }
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself, which is what was wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Collects QEMU's stderr; its end comes when QEMU ends.
struct StderrReader {
    thread: Option<JoinHandle<String>>,
    text: String,
}

impl StderrReader {
    fn start(stderr: Option<impl Read + Send + 'static>) -> Result<Self> {
        let thread = start_thread("qemu-stderr", move || {
            let mut bytes = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(STDERR_LIMIT).read_to_end(&mut bytes);
                // Past the limit it is still drained, or QEMU would block on it.
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })?;
        Ok(StderrReader {
            thread: Some(thread),
            text: String::new(),
        })
    }

    /// What QEMU said. Call it after QEMU's end only.
    fn text(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            self.text = thread.join().unwrap_or_default();
        }
        self.text.clone()
    }
}

fn start_thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(body)
        .map_err(|source| Error::Plumbing {
            act: "start a thread",
            source,
        })
}

fn create_log(path: &Path) -> Result<File> {
    let failed = |source| Error::Log {
        path: path.to_path_buf(),
        source,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    File::create(path).map_err(failed)
}
