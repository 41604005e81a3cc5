//! The description of a guest, and the QEMU command line that it becomes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::accelerator::Accelerator;
use crate::disk::{Disk, Role};
use crate::error::{Error, Result};
use crate::firmware::{Firmware, Prepared};
use crate::guest::Guest;
use crate::platform::{Arch, Platform};
use crate::serial::SerialSink;

/// A forward from a port of the host's loopback to a TCP port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The port in the guest.
    pub guest: u16,
    /// The port on 127.0.0.1; `None` lets QEMU choose a free one.
    pub host: Option<u16>,
}

/// A guest that can be started, any number of times.
///
/// ```no_run
/// # fn main() -> kos_qemu::Result<()> {
/// use std::time::Duration;
/// let guest = kos_qemu::Machine::new(kos_qemu::Arch::X86_64)
///     .kernel("bzImage")
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
    platform: Platform,
    firmware: Firmware,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    device_tree: Option<PathBuf>,
    append: String,
    memory_mib: u32,
    cpus: u32,
    disks: Vec<Disk>,
    network: bool,
    forwards: Vec<Forward>,
    guest_address: String,
    serial_log: Option<PathBuf>,
    accelerator: Option<Accelerator>,
    watchdog: bool,
    end_on_reboot: bool,
    paused: bool,
    extra: Vec<OsString>,
}

impl Machine {
    /// A guest of 512 MiB and one processor on the architecture's virtual machine. Without a
    /// kernel or a firmware it has nothing to boot.
    pub fn new(arch: Arch) -> Self {
        Self::on(Platform::of(arch))
    }

    /// As [`Machine::new`], on this platform.
    pub fn on(platform: Platform) -> Self {
        Machine {
            platform,
            firmware: Firmware::Direct,
            kernel: None,
            initrd: None,
            device_tree: None,
            append: String::new(),
            memory_mib: 512,
            cpus: 1,
            disks: Vec::new(),
            network: true,
            forwards: Vec::new(),
            guest_address: String::new(),
            serial_log: None,
            accelerator: None,
            watchdog: false,
            end_on_reboot: false,
            paused: false,
            extra: Vec::new(),
        }
    }

    /// What runs before the kernel (nothing, unless told otherwise).
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// The kernel that QEMU itself puts into memory.
    pub fn kernel(mut self, path: impl Into<PathBuf>) -> Self {
        self.kernel = Some(path.into());
        self
    }

    /// The device tree, where the platform does not make its own.
    pub fn device_tree(mut self, path: impl Into<PathBuf>) -> Self {
        self.device_tree = Some(path.into());
        self
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

    /// The guest's memory (a Raspberry Pi has 1 GiB, whatever is said here).
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The number of processors (a Raspberry Pi has four, whatever is said here).
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Adds a disk. A firmware tries disks in the order in which they were added.
    pub fn disk(mut self, disk: Disk) -> Self {
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

    /// The address that ports are forwarded to, for a guest that does not take the one which
    /// QEMU's DHCP gives it. QEMU's network is 10.0.2.0/24.
    pub fn guest_address(mut self, address: impl Into<String>) -> Self {
        self.guest_address = address.into();
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
        Guest::start(self, self.firmware.prepare()?, None)
    }

    /// Starts the guest and hands every byte of its serial line to `sink` as it comes.
    pub fn start_with_sink(&self, sink: SerialSink) -> Result<Guest> {
        self.check()?;
        Guest::start(self, self.firmware.prepare()?, Some(sink))
    }

    pub(crate) fn emulator(&self) -> &'static str {
        self.platform.arch().emulator()
    }

    pub(crate) fn serial_path(&self) -> Option<&Path> {
        self.serial_log.as_deref()
    }

    pub(crate) fn forwarded_ports(&self) -> Vec<u16> {
        self.forwards.iter().map(|forward| forward.guest).collect()
    }

    /// Opens every input once, so that a wrong path is named by us and not by QEMU; and makes the
    /// write logs, which QEMU does not make by itself.
    fn check(&self) -> Result<()> {
        let disks = self.disks.iter().map(|disk| ("disk", disk.path.as_path()));
        let files = [
            ("kernel", &self.kernel),
            ("initrd", &self.initrd),
            ("device tree", &self.device_tree),
        ]
        .into_iter()
        .filter_map(|(role, path)| Some((role, path.as_deref()?)))
        .chain(self.firmware.files());
        for (role, path) in files.chain(disks) {
            File::open(path).map_err(|source| Error::Input {
                role,
                path: path.to_path_buf(),
                source,
            })?;
        }
        for log in self.disks.iter().filter_map(|disk| disk.write_log.as_ref()) {
            File::create(log).map_err(|source| Error::Log {
                path: log.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// The whole command line after the program's name.
    ///
    /// The control channel is a socket on descriptor 0 and the serial line one on descriptor 1:
    /// nothing to find in a directory, nobody else can connect, no race at the start.
    pub(crate) fn arguments(&self, firmware: &Prepared) -> Vec<OsString> {
        let platform = self.platform;
        let accelerator = self
            .accelerator
            .unwrap_or_else(|| Accelerator::detect(platform.arch()));
        let (memory, cpus) = platform
            .fixed_size()
            .unwrap_or((self.memory_mib, self.cpus));
        let mut line = Arguments::default();
        line.add("-nodefaults")
            .add("-no-user-config")
            .pair("-display", "none");
        line.pair("-machine", platform.machine())
            .pair("-accel", accelerator.name())
            .pair("-cpu", platform.processor(accelerator == Accelerator::Tcg));
        line.pair("-m", memory.to_string())
            .pair("-smp", cpus.to_string());
        line.pair("-chardev", "socket,id=qmp,fd=0")
            .pair("-mon", "chardev=qmp,mode=control");
        line.pair("-chardev", "socket,id=serial,fd=1");
        for _ in 0..platform.serial_lines_before_the_console() {
            line.pair("-serial", "null");
        }
        line.pair("-serial", "chardev:serial");
        if platform.has_pci() {
            line.pair("-device", "virtio-rng-pci");
        }
        line.0.extend(firmware.arguments());
        for (option, path) in [
            ("-kernel", &self.kernel),
            ("-initrd", &self.initrd),
            ("-dtb", &self.device_tree),
        ] {
            if let Some(path) = path {
                line.pair(option, path);
            }
        }
        if !self.append.is_empty() {
            line.pair("-append", &self.append);
        }
        let role = match &self.kernel {
            _ if !platform.has_pci() => Role::BuiltInSlot,
            Some(_) => Role::IsThere,
            None => Role::Boots,
        };
        for (index, disk) in self.disks.iter().enumerate() {
            line.0.extend(disk.arguments(index, role));
        }
        if self.network {
            line.network(self);
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

    fn network(&mut self, machine: &Machine) {
        let mut backend = String::from("user,id=net0");
        let address = &machine.guest_address;
        for Forward { guest, host } in &machine.forwards {
            let host = host.unwrap_or(0);
            backend.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-{address}:{guest}"));
        }
        self.pair("-netdev", backend);
        let card = if machine.platform.has_pci() {
            // Without its boot ROM: the firmware would spend its time looking for a network boot.
            "virtio-net-pci,netdev=net0,romfile="
        } else {
            "usb-net,netdev=net0"
        };
        self.pair("-device", card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Attachment;

    fn line(machine: &Machine) -> String {
        let firmware = machine.firmware.prepare().unwrap();
        let arguments = machine.arguments(&firmware);
        arguments
            .iter()
            .map(|part| part.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_builder_becomes_a_command_line() {
        let machine = Machine::new(Arch::X86_64)
            .kernel("/k/bzImage")
            .initrd("/k/initrd")
            .append("console=ttyS0")
            .append("quiet")
            .memory_mib(768)
            .cpus(2)
            .disk(Disk::new("/d").serial("kos-data"))
            .forward(80)
            .forward_from(4000, 11434)
            .watchdog(true)
            .end_on_reboot(true)
            .argument("-S")
            .accelerator(Accelerator::Tcg);
        let line = line(&machine);
        for part in [
            "-machine q35 -accel tcg -cpu max -m 768 -smp 2",
            "-kernel /k/bzImage -initrd /k/initrd -append console=ttyS0 quiet",
            "-device virtio-blk-pci,drive=disk0,serial=kos-data",
            "hostfwd=tcp:127.0.0.1:0-:80,hostfwd=tcp:127.0.0.1:4000-:11434",
            "-device i6300esb -action watchdog=reset -no-reboot -S",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn a_guest_without_network_has_no_card() {
        let machine = Machine::new(Arch::X86_64)
            .network(false)
            .accelerator(Accelerator::Tcg);
        assert!(!line(&machine).contains("net"));
    }

    #[test]
    fn a_raspberry_pi_has_its_own_size_and_card_slot() {
        let machine = Machine::on(Platform::RaspberryPi3)
            .device_tree("/k/pi.dtb")
            .memory_mib(4096)
            .disk(Disk::new("/card").attached(Attachment::SdCard))
            .accelerator(Accelerator::Tcg);
        let line = line(&machine);
        for part in [
            "-machine raspi3b -accel tcg -cpu cortex-a53 -m 1024 -smp 4",
            "-dtb /k/pi.dtb",
            "-serial null -serial chardev:serial",
            "-drive if=sd,",
            "-device usb-net,netdev=net0",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!line.contains("pci"), "{line}");
    }

    #[test]
    fn a_missing_input_is_named() {
        let error = Machine::new(Arch::X86_64)
            .kernel("/nowhere/bzImage")
            .start()
            .unwrap_err()
            .to_string();
        assert_eq!(error, "cannot open the guest's kernel /nowhere/bzImage");
    }
}
