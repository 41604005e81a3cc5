//! A guest to be booted: from the kernel directly, or from its own disk by firmware.

use std::sync::{Condvar, Mutex};

use anyhow::{Context, Result};
use kos_qemu::{Disk, Firmware, Machine};

use crate::disk::{self, DataDisk};
use crate::environment::{self, Image};
use crate::guest::Guest;

/// Guests at a time: each keeps a processor busy, and slow guests make tests fail by their limits.
const GUESTS_AT_ONCE: usize = 2;

/// A guest to be booted.
pub struct Boot<'a> {
    name: &'a str,
    start: Start,
    disks: Vec<Disk>,
    memory_mib: u32,
    append: Vec<String>,
    end_on_reboot: bool,
    address: Option<&'a str>,
}

/// What starts the kernel.
enum Start {
    Kernel(Image),
    Firmware(Firmware),
}

impl<'a> Boot<'a> {
    /// A guest of 512 MiB without a disk, whose kernel QEMU starts. Its serial log is
    /// `$KOS_LOGS/<name>.log`.
    pub fn new(name: &'a str, image: Image) -> Self {
        Self::from(name, Start::Kernel(image))
    }

    /// A guest of 512 MiB that starts from its first disk, by UEFI.
    pub fn uefi(name: &'a str, disk: Disk) -> Result<Self> {
        let firmware = Firmware::uefi(environment::arch()?);
        Ok(Self::firmware(name, firmware).attach(disk))
    }

    /// A guest of 512 MiB that starts as this firmware does it.
    pub fn firmware(name: &'a str, firmware: Firmware) -> Self {
        Self::from(name, Start::Firmware(firmware))
    }

    fn from(name: &'a str, start: Start) -> Self {
        Boot {
            name,
            start,
            disks: Vec::new(),
            memory_mib: 512,
            append: Vec::new(),
            end_on_reboot: true,
            address: None,
        }
    }

    /// With this data disk.
    pub fn disk(self, data: &DataDisk) -> Self {
        self.append(&format!("kos.data=serial:{}", disk::SERIAL))
            .attach(Disk::new(data.path()).serial(disk::SERIAL))
    }

    /// With one more disk.
    pub fn attach(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// With this much memory.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// With more kernel arguments, where QEMU starts the kernel.
    pub fn append(mut self, arguments: &str) -> Self {
        self.append.push(arguments.to_string());
        self
    }

    /// Whether a reboot ends QEMU (it does unless told otherwise) or boots again.
    pub fn end_on_reboot(mut self, end: bool) -> Self {
        self.end_on_reboot = end;
        self
    }

    /// The address that the guest will have, where it is not the one that DHCP gives it.
    pub fn address(mut self, address: &'a str) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts the guest and waits until it is ready.
    pub fn start(self) -> Result<Guest> {
        let mut guest = self.start_unready()?;
        guest.take_up()?;
        Ok(guest)
    }

    /// Starts the guest and waits for nothing.
    pub fn start_unready(self) -> Result<Guest> {
        let permit = Permit::acquire();
        let machine = self.machine()?;
        let machine = machine.start().context("cannot start the guest")?;
        Ok(Guest::new(machine, permit))
    }

    fn machine(self) -> Result<Machine> {
        let machine = Machine::new(environment::arch()?);
        let mut machine = match self.start {
            Start::Firmware(firmware) => machine.firmware(firmware),
            Start::Kernel(image) => machine
                .kernel(environment::kernel()?)
                .initrd(image.initrd()?)
                .append(&format!(
                    "console={} quiet panic=10",
                    environment::console()?
                )),
        };
        for arguments in &self.append {
            machine = machine.append(arguments);
        }
        for disk in self.disks {
            machine = machine.disk(disk);
        }
        if let Some(address) = self.address {
            machine = machine.guest_address(address);
        }
        let log = environment::logs()?.join(format!("{}.log", self.name));
        Ok(machine
            .memory_mib(self.memory_mib)
            .cpus(2)
            .forward(80)
            .forward(11434)
            .accelerator(environment::accelerator()?)
            .end_on_reboot(self.end_on_reboot)
            .serial_log(log))
    }
}

/// The right to have one guest.
pub(crate) struct Permit;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

impl Permit {
    /// Waits until there is one.
    pub(crate) fn acquire() -> Self {
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
