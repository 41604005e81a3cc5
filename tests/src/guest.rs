//! A booted kOS: the machine, its API with the pairing code, and waits with time limits.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::api::{Api, ServiceView};
use crate::boot::{Boot, Permit};
use crate::disk::DataDisk;
use crate::environment::{Image, boot_limit, step_limit};

/// States are asked for again after each change on the serial line, and this often beside, in
/// case that nothing is printed for what a test waits for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Port of the shared guest on which one of its services answers the host.
pub const KEPT_PORT: u16 = 7701;

/// The model that is in every image.
pub const OPERATOR: &str = "operator:latest";

/// A running guest that printed `kos: ready`. Dropping it pulls the plug.
pub struct Guest {
    machine: kos_qemu::Guest,
    code: String,
    /// None with a guest that is kept.
    permit: Option<Permit>,
}

impl Guest {
    /// A guest that has just been started.
    pub(crate) fn new(machine: kos_qemu::Guest, permit: Permit) -> Self {
        Guest {
            machine,
            code: String::new(),
            permit: Some(permit),
        }
    }

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
                Guest::boot_shared()
                    .map(Guest::kept)
                    .map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(|error| anyhow!("the shared guest did not boot: {error}"))
    }

    fn boot_shared() -> Result<Self> {
        let disk = DataDisk::create()?;
        let boot = Boot::new("shared", Image::Test).disk(&disk);
        boot.forward(KEPT_PORT).start()
    }

    /// Gives back the right to run: a guest that lives until the test program ends is idle but for
    /// the test that uses it, and two of them would keep every other from starting.
    pub fn kept(mut self) -> Self {
        self.permit = None;
        self
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
        let deadline = Instant::now() + step_limit();
        let marker = format!("kos: service {name} ");
        loop {
            // Taken before the question, so that a change after the answer is not missed.
            let place = self.machine.serial_end();
            let seen = self.explain(api.service(name))?;
            if wanted(&seen) {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                let limit = step_limit().as_secs();
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
    pub fn wait_system(&self, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        let api = self.api();
        let deadline = Instant::now() + step_limit();
        loop {
            let seen = self.explain(api.get("/api/v1/system"))?;
            if wanted(&seen) {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                let limit = step_limit().as_secs();
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
        let deadline = Instant::now() + step_limit();
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
        let line = self.wait_line(
            "pairing code",
            |line| line.starts_with(marker),
            boot_limit(),
        )?;
        Ok(line[marker.len()..].trim().to_string())
    }

    /// Waits until the guest has rebooted inside the same QEMU, and takes up its new code.
    pub fn wait_reboot(&mut self) -> Result<()> {
        self.wait_line("kos: reboot", |line| line == "kos: reboot", step_limit())?;
        self.take_up()
    }

    /// Waits until a boot is ready, and takes up its pairing code.
    pub fn take_up(&mut self) -> Result<()> {
        self.code = self.pairing_code()?;
        self.wait_ready()
    }

    /// Waits for the line that says that every service has started or settled otherwise.
    fn wait_ready(&self) -> Result<()> {
        let ready = |line: &str| line == "kos: ready" || line.starts_with("kos: ready ");
        self.wait_line("kos: ready", ready, boot_limit()).map(drop)
    }

    /// Waits until the guest has powered off, and returns PID 1's last line.
    pub fn wait_power_off(&self) -> Result<String> {
        let status = self.machine.wait_exit(step_limit())?;
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

    /// Shuts the guest down in order; its disks can be looked at then.
    pub fn power_off(self) -> Result<()> {
        self.send_down("/api/v1/system/poweroff", None)?;
        let last = self.wait_power_off()?;
        ensure!(last == "kos: power off", "PID 1's last line is '{last}'");
        Ok(())
    }

    /// Asks for something that makes the box go down.
    pub fn send_down(&self, path: &str, body: Option<Value>) -> Result<()> {
        let place = self.machine.serial_end();
        match self.api().request("POST", path, body) {
            Ok(answer) => answer.success().map(drop),
            // The answer can be lost with the network, which goes down like everything else: what
            // counts is that the box does.
            Err(lost) => {
                let (down, limit) = ("kos: going down", step_limit());
                let wanted = |line: &str| line.starts_with(down);
                let seen = self.machine.wait_line_from(place, down, wanted, limit);
                seen.map(drop).map_err(|error| lost.context(error))
            }
        }
    }

    /// Pulls the plug.
    pub fn pull_the_plug(self) -> Result<()> {
        Ok(self.machine.quit().map(drop)?)
    }

    /// Pairs as a browser does, and returns its cookie.
    pub fn pair(&self) -> Result<String> {
        let form = format!("code={}", self.code);
        let answer = self.stranger().post_form("/pair", &form)?;
        ensure!(answer.status < 400, "{answer}");
        let cookie = answer.header("set-cookie").context("no cookie")?;
        Ok(cookie.split(';').next().unwrap_or_default().to_string())
    }

    /// Whether this cookie still opens the API.
    pub fn knows(&self, cookie: &str) -> Result<bool> {
        let asked = self.stranger().with("cookie", cookie);
        let answer = asked.request("GET", "/api/v1/system", None)?;
        match answer.status {
            200 => Ok(true),
            401 => Ok(false),
            _ => Err(anyhow!("{answer}")),
        }
    }

    /// What the API says about `/data`.
    pub fn data(&self) -> Result<Value> {
        let system = self.explain(self.api().get("/api/v1/system"))?;
        Ok(system["data"].clone())
    }

    /// How many models the box offers beside the one that came with it.
    pub fn model_count(&self) -> Result<usize> {
        let tags = self.models().get("/api/tags")?;
        let models = tags["models"]
            .as_array()
            .with_context(|| format!("no list in {tags}"))?;
        let own = models.iter().filter(|model| model["name"] != OPERATOR);
        Ok(own.count())
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
