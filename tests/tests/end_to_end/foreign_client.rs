//! PID 1's D-Bus with a client that is not ours: the host's `busctl`, through a service that joins a
//! TCP port to the control socket.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use kos_tests::{Boot, DataDisk, Guest, Image};

/// Where the bridge listens in the guest.
const BRIDGE: u16 = 7700;
const MANAGER: &str = "/org/kos/Init1";
const BASE: &str = "/org/kos/Init1/service/order_2dbase";

#[test]
fn busctl_browses_operates_and_hears() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("foreign-client", Image::Test)
        .disk(&disk)
        .forward(BRIDGE)
        .start()?;
    guest.api().start("control-bridge")?;
    guest.wait_log("control-bridge", |line| line == "listening")?;
    let bus = Busctl::new(&guest)?;

    let tree = bus.run(&["tree", "--list", "org.kos.Init1"])?;
    ensure!(tree.lines().any(|line| line == BASE), "{tree}");
    let seen = bus.run(&["introspect", "org.kos.Init1", BASE])?;
    for word in [
        ".Freeze",
        ".MemoryMax",
        "\"order-base\"",
        ".PropertiesChanged",
    ] {
        ensure!(seen.contains(word), "no {word}: {seen}");
    }
    let state = [
        "get-property",
        "org.kos.Init1",
        BASE,
        "org.kos.Init1.Service",
        "State",
    ];
    ensure!(bus.run(&state)? == "s \"ready\"\n");

    let mut monitor = bus.monitor()?;
    let call = |method: &str| {
        bus.run(&[
            "call",
            "org.kos.Init1",
            BASE,
            "org.kos.Init1.Service",
            method,
        ])
    };
    call("Freeze")?;
    monitor.wait_for("[\"order-base\",\"frozen\",")?;
    ensure!(bus.run(&state)? == "s \"frozen\"\n");
    call("Thaw")?;
    monitor.wait_for("[\"order-base\",\"ready\",")?;
    let wrong = [
        "call",
        "org.kos.Init1",
        MANAGER,
        "org.kos.Init1",
        "Start",
        "s",
        "nobody",
    ];
    let told = bus.run(&wrong).err().context("nobody was started")?;
    ensure!(
        format!("{told:#}").contains("there is no service 'nobody'"),
        "{told:#}"
    );
    guest.power_off()
}

/// The host's busctl, and where it finds PID 1.
struct Busctl {
    address: String,
}

impl Busctl {
    fn new(guest: &Guest) -> Result<Self> {
        let address = guest.machine().address(BRIDGE)?;
        Ok(Busctl {
            address: format!(
                "--address=tcp:host={},port={}",
                address.ip(),
                address.port()
            ),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("busctl");
        command.args([&self.address, "--no-pager", "--full", "--timeout=60"]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command()
            .args(arguments)
            .output()
            .context("busctl is needed, of Debian's package systemd")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "busctl {arguments:?}: {told}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn monitor(&self) -> Result<Monitor> {
        let mut child = self
            .command()
            .args(["--json=short", "monitor"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let errors = child.stderr.take().context("no standard error")?;
        let output = child.stdout.take().context("no standard output")?;
        // It says so once it is told signals.
        let mut line = String::new();
        BufReader::new(errors).read_line(&mut line)?;
        ensure!(line.contains("Monitoring"), "{line}");
        Ok(Monitor {
            child,
            lines: BufReader::new(output),
        })
    }
}

/// A running `busctl monitor`.
struct Monitor {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Monitor {
    /// Reads until a signal with this in it. A signal that never comes ends with the guest.
    fn wait_for(&mut self, words: &str) -> Result<()> {
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            if line.contains(words) {
                return Ok(());
            }
            line.clear();
        }
        anyhow::bail!("the monitor ended before it heard {words}")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Gone already, or gone now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
