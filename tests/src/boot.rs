//! A guest to be booted: from the kernel directly, or from its own disk by firmware.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex};

use anyhow::{Context, Result};
use kos_qemu::{Attachment, Disk, Firmware, Machine, Platform};
use tempfile::TempDir;

use crate::box_disk::BoxDisk;
use crate::disk::{self, DataDisk};
use crate::environment::{self, Image};
use crate::guest::Guest;

/// Guests at a time: each keeps a processor busy, and slow guests make tests fail by their limits.
const GUESTS_AT_ONCE: usize = 2;

/// A PC's kernel tries its timer for a few hundredths of a second. On a host that is busy with other
/// things QEMU may not come to raise one interrupt in that time, and the kernel gives up.
const NO_TIMER_CHECK: &str = "no_timer_check";

/// As in `image/boards/qemu-*.toml`, and what [`Boot::last_words`] says.
const LAST_WORDS: &str = "reserve_mem=256K:2M:kos ramoops.mem_name=kos \
    ramoops.record_size=16384 ramoops.console_size=65536 ramoops.pmsg_size=65536 \
    ramoops.ftrace_size=0 sysrq_always_enabled nokaslr";

/// How often a guest is started whose kernel panicked before it came to PID 1. QEMU 7.2's translator
/// was seen to break a PC's kernel in one of fifty boots by UEFI, with flags set that no
/// processor sets; nothing of ours had run. Each such log is kept.
const TRIES: usize = 3;

/// A guest to be booted.
pub struct Boot<'a> {
    name: &'a str,
    start: Start,
    disks: Vec<Disk>,
    memory_mib: u32,
    append: Vec<String>,
    end_on_reboot: bool,
    watchdog: bool,
    address: Option<&'a str>,
    forwards: Vec<u16>,
}

/// What starts the kernel.
enum Start {
    Kernel(Image),
    Firmware(Firmware),
    RaspberryPi(SlotFiles),
}

/// What a Raspberry Pi's firmware reads from its slot: kernel, initial file system, device tree.
struct SlotFiles(TempDir);

/// Their names there. QEMU's Pi is a Pi 3.
const SLOT_FILES: [&str; 3] = ["kernel8.img", "initramfs8", "bcm2837-rpi-3-b.dtb"];

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

    /// A Raspberry Pi 3 with this card. QEMU has nothing of the Pi's firmware, so what the firmware
    /// would read from the first slot is read here.
    pub fn raspberry_pi(name: &'a str, card: &BoxDisk) -> Result<Self> {
        let slot = card.fat("kos-a")?;
        let files = TempDir::with_prefix("kos-slot-").context("cannot create a directory")?;
        for name in SLOT_FILES {
            std::fs::write(files.path().join(name), slot.read(name)?)?;
        }
        let arguments = String::from_utf8(slot.read("cmdline.txt")?)?;
        let start = Start::RaspberryPi(SlotFiles(files));
        // QEMU's model of its watchdog does not count: it resets as soon as it is started.
        Ok(Self::from(name, start)
            .append(arguments.trim())
            .append("kos.watchdog=off")
            .attach(card.attached(Attachment::SdCard)))
    }

    fn from(name: &'a str, start: Start) -> Self {
        Boot {
            name,
            start,
            disks: Vec::new(),
            memory_mib: 512,
            append: Vec::new(),
            end_on_reboot: true,
            watchdog: false,
            address: None,
            forwards: Vec::new(),
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

    /// With QEMU's hardware watchdog, which resets the guest.
    pub fn watchdog(mut self) -> Self {
        self.watchdog = true;
        self
    }

    /// With memory that keeps the last boot's words over a reset, as the boards without UEFI have
    /// it, and with the kernel's magic SysRq. Without KASLR: a test has no place for the kernel
    /// that is put on that memory once in a while.
    pub fn last_words(self) -> Self {
        self.append(LAST_WORDS)
    }

    /// The address that the guest will have, where it is not the one that DHCP gives it.
    pub fn address(mut self, address: &'a str) -> Self {
        self.address = Some(address);
        self
    }

    /// With one more TCP port of the guest that the host can reach.
    pub fn forward(mut self, port: u16) -> Self {
        self.forwards.push(port);
        self
    }

    /// Starts the guest and waits until it is ready.
    pub fn start(&self) -> Result<Guest> {
        let mut tries = 1;
        loop {
            let mut guest = self.start_unready()?;
            match guest.take_up() {
                Err(_) if tries < TRIES && died_before_init(&guest) => {
                    let log = self.log()?;
                    std::fs::rename(&log, log.with_extension(format!("panic-{tries}.log")))?;
                    tries += 1;
                }
                result => return result.map(|()| guest),
            }
        }
    }

    /// Starts the guest and waits for nothing.
    pub fn start_unready(&self) -> Result<Guest> {
        let permit = Permit::acquire();
        let machine = self.machine()?;
        // QEMU has read its files when it has started.
        let machine = machine.start().context("cannot start the guest")?;
        Ok(Guest::new(machine, permit))
    }

    fn log(&self) -> Result<PathBuf> {
        Ok(environment::logs()?.join(format!("{}.log", self.name)))
    }

    fn machine(&self) -> Result<Machine> {
        let machine = Machine::new(environment::arch()?);
        let mut machine = match &self.start {
            Start::Firmware(firmware) => machine.firmware(firmware.clone()),
            Start::RaspberryPi(SlotFiles(files)) => {
                let [kernel, initrd, tree] = SLOT_FILES.map(|name| files.path().join(name));
                Machine::on(Platform::RaspberryPi3)
                    .kernel(kernel)
                    .initrd(initrd)
                    .device_tree(tree)
            }
            Start::Kernel(image) => machine
                .kernel(environment::kernel()?)
                .initrd(image.initrd()?)
                .append(&format!(
                    "console={} quiet panic=10 {NO_TIMER_CHECK}",
                    environment::console()?
                )),
        };
        for arguments in &self.append {
            machine = machine.append(arguments);
        }
        for disk in &self.disks {
            machine = machine.disk(disk.clone());
        }
        if let Some(address) = self.address {
            machine = machine.guest_address(address);
        }
        for port in &self.forwards {
            machine = machine.forward(*port);
        }
        Ok(machine
            .memory_mib(self.memory_mib)
            .cpus(2)
            .forward(80)
            .forward(11434)
            .accelerator(environment::accelerator()?)
            .watchdog(self.watchdog)
            .end_on_reboot(self.end_on_reboot)
            .serial_log(self.log()?))
    }
}

fn died_before_init(guest: &Guest) -> bool {
    let lines = guest.machine().serial_lines();
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    has("Kernel panic") && !has("kos: init")
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
