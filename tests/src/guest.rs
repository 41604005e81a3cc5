//! A booted kOS: the machine, its API with the pairing code, and waits with time limits.

use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use kos_qemu::{Accelerator, Machine};
use serde_json::Value;

use crate::api::{Api, ServiceView};
use crate::disk::{self, DataDisk};
use crate::environment::{self, Image};

/// From QEMU's start to `kos: ready`. Under TCG on a loaded machine of two processors 30 s were
/// seen; a guest that hangs is found soon enough.
pub const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// For one step of a test: a state reached, a line printed.
pub const STEP_LIMIT: Duration = Duration::from_secs(120);
/// States are asked for again after each change on the serial line, and this often beside, in
/// case that nothing is printed for what a test waits for.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Guests at a time: each keeps a processor busy, and slow guests make tests fail by their limits.
const GUESTS_AT_ONCE: usize = 2;

/// A guest to be booted.
pub struct Boot<'a> {
    name: &'a str,
    image: Image,
    disk: Option<&'a DataDisk>,
    memory_mib: u32,
    append: &'a str,
    end_on_reboot: bool,
}

impl<'a> Boot<'a> {
    /// A guest of 512 MiB without a data disk. Its serial log is `$KOS_LOGS/<name>.log`.
    pub fn new(name: &'a str, image: Image) -> Self {
        Boot {
            name,
            image,
            disk: None,
            memory_mib: 512,
            append: "",
            end_on_reboot: true,
        }
    }

    /// With this data disk.
    pub fn disk(mut self, disk: &'a DataDisk) -> Self {
        self.disk = Some(disk);
        self
    }

    /// With this much memory.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// With more kernel arguments.
    pub fn append(mut self, arguments: &'a str) -> Self {
        self.append = arguments;
        self
    }

    /// Whether a reboot ends QEMU (it does unless told otherwise) or boots again.
    pub fn end_on_reboot(mut self, end: bool) -> Self {
        self.end_on_reboot = end;
        self
    }

    /// Starts the guest and waits until it is ready.
    pub fn start(self) -> Result<Guest> {
        let mut guest = self.start_unready()?;
        guest.code = guest.pairing_code()?;
        guest.wait_ready()?;
        Ok(guest)
    }

    /// Starts the guest and waits for nothing.
    pub fn start_unready(self) -> Result<Guest> {
        let permit = Permit::acquire();
        let logs = environment::logs()?;
        let mut machine = Machine::new(kos_qemu::Arch::X86_64)
            .kernel(environment::kernel()?)
            .initrd(self.image.initrd()?)
            .append("console=ttyS0 quiet panic=10")
            .append(self.append)
            .memory_mib(self.memory_mib)
            .cpus(2)
            .forward(80)
            .forward(11434)
            .accelerator(Accelerator::detect_remembered(
                kos_qemu::Arch::X86_64,
                &logs.join("accelerator"),
            ))
            .end_on_reboot(self.end_on_reboot)
            .serial_log(logs.join(format!("{}.log", self.name)));
        if let Some(data) = self.disk {
            machine = machine
                .append(&format!("kos.data=serial:{}", disk::SERIAL))
                .disk(kos_qemu::Disk::new(data.path()).serial(disk::SERIAL));
        }
        let machine = machine.start().context("cannot start the guest")?;
        Ok(Guest {
            machine,
            code: String::new(),
            _permit: permit,
        })
    }
}

/// A running guest that printed `kos: ready`. Dropping it pulls the plug.
pub struct Guest {
    machine: kos_qemu::Guest,
    code: String,
    _permit: Permit,
}

impl Guest {
    /// Boots an image with a fresh data disk that holds the tiny model.
    ///
    /// The disk is gone when the guest is: where a test looks at it later, it uses [`Boot`].
    pub fn boot(name: &str, image: Image) -> Result<Self> {
        let disk = DataDisk::create()?;
        // QEMU keeps the file open; its name is not needed any more.
        Boot::new(name, image).disk(&disk).start()
    }

    /// The guest with the test services that tests share which do not disturb each other. It
    /// lives until the test program ends.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Guest, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| {
                Guest::boot("shared", Image::Test).map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(|error| anyhow!("the shared guest did not boot: {error}"))
    }

    /// The machine itself: serial line, power button, plug.
    pub fn machine(&self) -> &kos_qemu::Guest {
        &self.machine
    }

    /// The pairing code that this boot printed.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The API with the pairing code.
    pub fn api(&self) -> Api {
        self.stranger().paired(&self.code)
    }

    /// The API without any right.
    pub fn stranger(&self) -> Api {
        self.api_at(80)
            .expect("port 80 is forwarded in each of our guests")
    }

    /// The models' own port with the pairing code.
    pub fn models(&self) -> Api {
        self.api_at(11434)
            .expect("port 11434 is forwarded in each of our guests")
            .paired(&self.code)
    }

    fn api_at(&self, port: u16) -> Result<Api> {
        Ok(Api::new(self.machine.address(port)?))
    }

    /// Waits until a service is as wanted, and returns it.
    pub fn wait_service(
        &self,
        name: &str,
        wanted: impl Fn(&ServiceView) -> bool,
    ) -> Result<ServiceView> {
        let api = self.api();
        let deadline = Instant::now() + STEP_LIMIT;
        let marker = format!("kos: service {name} ");
        loop {
            // Taken before the question, so that a change after the answer is not missed.
            let place = self.machine.serial_end();
            let seen = self.explain(api.service(name))?;
            if wanted(&seen) {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                let limit = STEP_LIMIT.as_secs();
                return self.explain(Err(anyhow!(
                    "after {limit} s the service is still not as wanted: {seen:?}"
                )));
            }
            let changed = |line: &str| line.starts_with(&marker);
            match self
                .machine
                .wait_line_from(place, "change", changed, ASK_AGAIN)
            {
                Ok(_) | Err(kos_qemu::Error::Timeout { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the system's description is as wanted, and returns it.
    pub fn wait_system(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let api = self.api();
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let seen = self.explain(api.get("/api/v1/system"))?;
            if wanted(&seen) {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                let limit = STEP_LIMIT.as_secs();
                return self.explain(Err(anyhow!("after {limit} s the system is still {seen}")));
            }
            // Nothing announces a change of these numbers.
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Waits until a service's log holds a line, and returns the whole log.
    pub fn wait_log(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let api = self.api();
        let mut stream =
            self.explain(api.follow(&format!("/api/v1/services/{name}/log?follow=1")))?;
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            // The client's own limit ends a read that nothing comes for.
            let Some(line) = self.explain(stream.next_line())? else {
                return self.explain(Err(anyhow!("the log of {name} ended before its line")));
            };
            let Some(data) = line.strip_prefix("data:") else {
                continue;
            };
            let entry: Value = serde_json::from_str(data.trim())
                .with_context(|| format!("the log of {name} sent {data}"))?;
            if entry["message"].as_str().is_some_and(&wanted) {
                return self.explain(api.log(name));
            }
            if Instant::now() > deadline {
                return self.explain(Err(anyhow!("the log of {name} lacks its line")));
            }
        }
    }

    /// The next serial line that is as wanted.
    pub fn wait_line(
        &self,
        what: &str,
        wanted: impl FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<String> {
        Ok(self.machine.wait_line(what, wanted, limit)?)
    }

    /// The pairing code of the next boot on the serial line.
    fn pairing_code(&self) -> Result<String> {
        let marker = "kos: pairing code ";
        let line = self.wait_line("pairing code", |line| line.starts_with(marker), BOOT_LIMIT)?;
        Ok(line[marker.len()..].trim().to_string())
    }

    /// Waits until the guest has rebooted inside the same QEMU, and takes up its new code.
    pub fn wait_reboot(&mut self) -> Result<()> {
        self.wait_line("kos: reboot", |line| line == "kos: reboot", STEP_LIMIT)?;
        self.code = self.pairing_code()?;
        self.wait_ready()
    }

    /// Waits for the line that says that every service has started or settled otherwise.
    fn wait_ready(&self) -> Result<()> {
        let ready = |line: &str| line == "kos: ready" || line.starts_with("kos: ready ");
        self.wait_line("kos: ready", ready, BOOT_LIMIT).map(drop)
    }

    /// Waits until the guest has powered off, and returns PID 1's last line.
    pub fn wait_power_off(&self) -> Result<String> {
        let status = self.machine.wait_exit(STEP_LIMIT)?;
        // The kernel has the very last word ("reboot: Power down").
        let lines = self.machine.serial_lines();
        let last = lines
            .into_iter()
            .rfind(|line| line.starts_with("kos: "))
            .unwrap_or_default();
        if status.success() {
            Ok(last)
        } else {
            self.explain(Err(anyhow!("QEMU ended with {status}")))
        }
    }

    /// Adds the end of the serial log and its path to an error.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| anyhow!("{error:#}\n{}", self.machine.serial_tail()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A failed assertion says what was wrong; this says what the guest saw.
        if std::thread::panicking() {
            eprintln!("{}", self.machine.serial_tail());
        }
    }
}

/// The right to have one guest.
struct Permit;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

impl Permit {
    fn acquire() -> Self {
        let mut running = RUNNING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        while *running >= GUESTS_AT_ONCE {
            running = ENDED
                .wait(running)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *running += 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
        ENDED.notify_one();
    }
}
