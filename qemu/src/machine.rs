//! The description of a guest, and the QEMU command line that it becomes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::accelerator::Accelerator;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::serial::SerialSink;

pub(crate) const EMULATOR: &str = "qemu-system-x86_64";
/// Everything that the accelerator offers: TCG's `max` has AVX2, FMA and F16C, which inference
/// needs, and the default processor has none of them.
pub(crate) const CPU: &str = "max";

/// A forward from a port of the host's loopback to a TCP port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The port in the guest.
    pub guest: u16,
    /// The port on 127.0.0.1; `None` lets QEMU choose a free one.
    pub host: Option<u16>,
}

/// A raw disk image, seen by the guest as a virtio block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDisk {
    /// The image file.
    pub path: PathBuf,
    /// The serial that the guest finds it by (`kos.data=serial:ID`); at most 20 bytes.
    pub serial: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A guest that can be started, any number of times.
///
/// ```no_run
/// # fn main() -> kos_qemu::Result<()> {
/// use std::time::Duration;
/// let guest = kos_qemu::Machine::new("bzImage")
///     .initrd("initrd.cpio")
///     .append("console=ttyS0 quiet")
///     .forward(80)
///     .start()?;
/// guest.wait_line("the ready line", |line| line == "kos: ready", Duration::from_secs(60))?;
/// let port = guest.host_port(80)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Machine {
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    append: String,
    memory_mib: u32,
    cpus: u32,
    disks: Vec<DataDisk>,
    network: bool,
    forwards: Vec<Forward>,
    serial_log: Option<PathBuf>,
    accelerator: Option<Accelerator>,
    watchdog: bool,
    end_on_reboot: bool,
    paused: bool,
    extra: Vec<OsString>,
}

impl Machine {
    /// A guest of 512 MiB and one processor that boots this kernel.
    pub fn new(kernel: impl Into<PathBuf>) -> Self {
        Machine {
            kernel: Some(kernel.into()),
            ..Self::empty()
        }
    }

    /// A guest with nothing to boot: firmware only.
    pub fn empty() -> Self {
        Machine {
            kernel: None,
            initrd: None,
            append: String::new(),
            memory_mib: 512,
            cpus: 1,
            disks: Vec::new(),
            network: true,
            forwards: Vec::new(),
            serial_log: None,
            accelerator: None,
            watchdog: false,
            end_on_reboot: false,
            paused: false,
            extra: Vec::new(),
        }
    }

    /// The initial file system.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.initrd = Some(path.into());
        self
    }

    /// Adds to the kernel's command line, after a space.
    pub fn append(mut self, arguments: &str) -> Self {
        if !self.append.is_empty() && !arguments.is_empty() {
            self.append.push(' ');
        }
        self.append.push_str(arguments);
        self
    }

    /// The guest's memory.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The number of processors.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Adds a disk.
    pub fn disk(mut self, disk: DataDisk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Whether there is a network card (there is, unless told otherwise).
    pub fn network(mut self, network: bool) -> Self {
        self.network = network;
        self
    }

    /// Forwards a free port of the host's loopback to this guest port; see [`Guest::host_port`].
    pub fn forward(mut self, guest: u16) -> Self {
        self.forwards.push(Forward { guest, host: None });
        self
    }

    /// Forwards this port of the host's loopback to this guest port.
    pub fn forward_from(mut self, host: u16, guest: u16) -> Self {
        self.forwards.push(Forward {
            guest,
            host: Some(host),
        });
        self
    }

    /// Writes the serial line to this file, which is emptied at the start.
    pub fn serial_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.serial_log = Some(path.into());
        self
    }

    /// Forces an accelerator; otherwise [`Accelerator::detect`] decides.
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = Some(accelerator);
        self
    }

    /// Adds a hardware watchdog (Intel 6300ESB) that resets the guest.
    pub fn watchdog(mut self, watchdog: bool) -> Self {
        self.watchdog = watchdog;
        self
    }

    /// Whether a reboot of the guest ends QEMU, as tests want it, instead of booting again.
    pub fn end_on_reboot(mut self, end: bool) -> Self {
        self.end_on_reboot = end;
        self
    }

    /// Whether the guest starts halted, until the QMP command `cont`.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Adds an argument for QEMU that this builder has no name for.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.extra.push(argument.into());
        self
    }

    /// Starts the guest.
    pub fn start(&self) -> Result<Guest> {
        self.check()?;
        Guest::start(self, None)
    }

    /// Starts the guest and hands every byte of its serial line to `sink` as it comes.
    pub fn start_with_sink(&self, sink: SerialSink) -> Result<Guest> {
        self.check()?;
        Guest::start(self, Some(sink))
    }

    pub(crate) fn serial_path(&self) -> Option<&Path> {
        self.serial_log.as_deref()
    }

    pub(crate) fn forwarded_ports(&self) -> Vec<u16> {
        self.forwards.iter().map(|forward| forward.guest).collect()
    }

    /// Opens every input once, so that a wrong path is named by us and not by QEMU.
    fn check(&self) -> Result<()> {
        let disks = self.disks.iter().map(|disk| ("data disk", &disk.path));
        let files = [("kernel", &self.kernel), ("initrd", &self.initrd)]
            .into_iter()
            .filter_map(|(role, path)| Some((role, path.as_ref()?)));
        for (role, path) in files.chain(disks) {
            File::open(path).map_err(|source| Error::Input {
                role,
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// The whole command line after the program's name.
    ///
    /// The control channel is a socket on descriptor 0 and the serial line one on descriptor 1:
    /// nothing to find in a directory, nobody else can connect, no race at the start.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let accelerator = self.accelerator.unwrap_or_else(Accelerator::detect);
        let mut line = Arguments::default();
        line.add("-nodefaults")
            .add("-no-user-config")
            .pair("-display", "none");
        line.pair("-machine", "q35")
            .pair("-accel", accelerator.name())
            .pair("-cpu", CPU);
        line.pair("-m", self.memory_mib.to_string())
            .pair("-smp", self.cpus.to_string());
        line.pair("-chardev", "socket,id=qmp,fd=0")
            .pair("-mon", "chardev=qmp,mode=control");
        line.pair("-chardev", "socket,id=serial,fd=1")
            .pair("-serial", "chardev:serial");
        line.pair("-device", "virtio-rng-pci");
        if let Some(kernel) = &self.kernel {
            line.pair("-kernel", kernel);
        }
        if let Some(initrd) = &self.initrd {
            line.pair("-initrd", initrd);
        }
        if !self.append.is_empty() {
            line.pair("-append", &self.append);
        }
        for (index, disk) in self.disks.iter().enumerate() {
            line.disk(index, disk);
        }
        if self.network {
            line.network(&self.forwards);
        }
        if self.watchdog {
            line.pair("-device", "i6300esb")
                .pair("-action", "watchdog=reset");
        }
        if self.end_on_reboot {
            line.add("-no-reboot");
        }
        if self.paused {
            line.add("-S");
        }
        line.0.extend(self.extra.iter().cloned());
        line.0
    }
}

/// A command line in the making.
#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(argument.as_ref().to_os_string());
        self
    }

    fn pair(&mut self, option: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.add(option).add(value)
    }

    fn disk(&mut self, index: usize, disk: &DataDisk) {
        let mut drive = OsString::from("if=none,format=raw,discard=unmap,detect-zeroes=unmap");
        drive.push(format!(
            ",id=disk{index},read-only={}",
            on_off(disk.read_only)
        ));
        drive.push(",file=");
        drive.push(escape_commas(disk.path.as_os_str()));
        self.pair("-drive", drive);
        let serial = disk.serial.replace(',', ",,");
        self.pair(
            "-device",
            format!("virtio-blk-pci,drive=disk{index},serial={serial}"),
        );
    }

    fn network(&mut self, forwards: &[Forward]) {
        let mut backend = String::from("user,id=net0");
        for forward in forwards {
            let host = forward.host.unwrap_or(0);
            backend.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{}", forward.guest));
        }
        self.pair("-netdev", backend);
        // Without its boot ROM: the firmware would spend its time looking for a network boot.
        self.pair("-device", "virtio-net-pci,netdev=net0,romfile=");
    }
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// QEMU ends an option's value at a comma unless it is doubled.
fn escape_commas(text: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        escaped.push(byte);
        if byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> String {
        let arguments = machine.arguments();
        arguments
            .iter()
            .map(|part| part.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_builder_becomes_a_command_line() {
        let machine = Machine::new("/k/bzImage")
            .initrd("/k/initrd")
            .append("console=ttyS0")
            .append("quiet")
            .memory_mib(768)
            .cpus(2)
            .disk(DataDisk {
                path: "/d,1".into(),
                serial: "kos-data".into(),
                read_only: false,
            })
            .forward(80)
            .forward_from(4000, 11434)
            .watchdog(true)
            .end_on_reboot(true)
            .argument("-S")
            .accelerator(Accelerator::Tcg);
        let line = line(&machine);
        for part in [
            "-accel tcg -cpu max -m 768 -smp 2",
            "-kernel /k/bzImage -initrd /k/initrd -append console=ttyS0 quiet",
            "read-only=off,file=/d,,1 -device virtio-blk-pci,drive=disk0,serial=kos-data",
            "hostfwd=tcp:127.0.0.1:0-:80,hostfwd=tcp:127.0.0.1:4000-:11434",
            "-device i6300esb -action watchdog=reset -no-reboot -S",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn a_guest_without_network_has_no_card() {
        let machine = Machine::empty()
            .network(false)
            .accelerator(Accelerator::Tcg);
        assert!(!line(&machine).contains("net"));
    }

    #[test]
    fn a_missing_input_is_named() {
        let error = Machine::new("/nowhere/bzImage")
            .start()
            .unwrap_err()
            .to_string();
        assert_eq!(error, "cannot open the guest's kernel /nowhere/bzImage");
    }
}
