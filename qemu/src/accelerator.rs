//! Chooses between the processor's own virtualisation (KVM) and QEMU's translator (TCG).
//!
//! That `/dev/kvm` opens says little: in nested and filtered environments QEMU then dies on a
//! register that it may not set, or the guest never moves. So a guest of a few bytes is run.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::platform::{Arch, Platform};
use crate::process;

/// A working KVM runs the probe in under 100 ms.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long a remembered result is believed: a host does not gain or lose KVM often.
const REMEMBERED: Duration = Duration::from_secs(12 * 60 * 60);

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: works everywhere, 10 to 150 times slower.
    Tcg,
}

impl Accelerator {
    /// QEMU's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }

    /// KVM where it truly runs guests of this architecture, else TCG. The probe runs at most once
    /// per process and takes at most two seconds; another architecture than the host's needs none.
    pub fn detect(arch: Arch) -> Self {
        static DETECTED: OnceLock<Accelerator> = OnceLock::new();
        if Arch::of_host() != Some(arch) {
            return Accelerator::Tcg;
        }
        *DETECTED.get_or_init(|| {
            if Path::new("/dev/kvm").exists() && probe(arch, Accelerator::Kvm).unwrap_or(false) {
                Accelerator::Kvm
            } else {
                Accelerator::Tcg
            }
        })
    }

    /// As [`Accelerator::detect`], but remembers the result in a file for half a day, so that
    /// twenty test programs in a row probe once.
    pub fn detect_remembered(arch: Arch, file: &Path) -> Self {
        if Arch::of_host() != Some(arch) {
            return Accelerator::Tcg;
        }
        if let Some(known) = recall(file) {
            return known;
        }
        let detected = Self::detect(arch);
        // A result that cannot be remembered is found again next time.
        let _ = std::fs::write(file, detected.name());
        detected
    }
}

fn recall(file: &Path) -> Option<Accelerator> {
    let written = std::fs::metadata(file).ok()?.modified().ok()?;
    if SystemTime::now().duration_since(written).ok()? > REMEMBERED {
        return None;
    }
    match std::fs::read_to_string(file).ok()?.trim() {
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        _ => None,
    }
}

/// The size of the probe's firmware: what both machines take.
const FIRMWARE_SIZE: usize = 64 * 1024;

/// A firmware that ends QEMU, and the exit code that it does so with.
fn probe_firmware(arch: Arch) -> (Vec<u8>, i32) {
    let mut firmware = vec![0; FIRMWARE_SIZE];
    let mut put = |place: usize, bytes: &[u8]| {
        firmware[place..place + bytes.len()].copy_from_slice(bytes);
    };
    let code = match arch {
        // The reset vector is 16 bytes before the end. QEMU makes `value << 1 | 1` of what is
        // written to isa-debug-exit. A nested KVM that only emulates runs old instructions and stops
        // at the kernel's first one of BMI2 (processors of 2013 and later).
        Arch::X86_64 => {
            put(FIRMWARE_SIZE - 16, &[0xe9, 0x0d, 0xff]); // jmp to 0xff00
            put(
                0xff00,
                &[
                    0x2e, 0x66, 0x0f, 0x01, 0x16, 0x40, 0xff, // lgdt cs:[0xff40]
                    0x0f, 0x20, 0xc0, // mov eax, cr0
                    0x0c, 0x01, // or al, 1
                    0x0f, 0x22, 0xc0, // mov cr0, eax
                    0x66, 0xea, 0x20, 0xff, 0xff, 0xff, 0x08, 0x00, // jmp 8:0xffffff20
                ],
            );
            put(
                0xff20,
                &[
                    0xc4, 0xe2, 0x79, 0xf7, 0xc0, // shlx eax, eax, eax
                    0xb0, 0x21, // mov al, 0x21
                    0xe6, 0xf4, // out 0xf4, al
                    0xf4, // hlt
                    0xeb, 0xfd, // jmp to the hlt
                ],
            );
            put(0xff40, &[0x0f, 0x00, 0x48, 0xff, 0xff, 0xff]); // the table's end and start
            put(0xff50, &[0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0]); // all of memory, as code of 32 bits
            0x43
        }
        // PSCI's SYSTEM_OFF.
        Arch::Aarch64 => {
            put(
                0,
                &[
                    0x00, 0x01, 0x80, 0x52, // mov w0, #0x8
                    0x00, 0x80, 0xb0, 0x72, // movk w0, #0x8400, lsl #16
                    0x02, 0x00, 0x00, 0xd4, // hvc #0
                    0x00, 0x00, 0x00, 0x14, // b to itself
                ],
            );
            0
        }
    };
    (firmware, code)
}

/// Whether the accelerator runs the probe with the processor that our guests get.
fn probe(arch: Arch, accelerator: Accelerator) -> Result<bool> {
    let plumbing = |act| move |source| Error::Plumbing { act, source };
    let platform = Platform::of(arch);
    let (program, expected) = probe_firmware(arch);
    let mut firmware =
        tempfile::NamedTempFile::new().map_err(plumbing("create the probe's firmware"))?;
    firmware
        .write_all(&program)
        .map_err(plumbing("write the probe's firmware"))?;
    let mut command = process::command(arch.emulator());
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-machine", platform.machine()])
        .args(["-accel", accelerator.name()])
        .args(["-cpu", platform.processor(accelerator == Accelerator::Tcg)])
        .args(["-m", "16", "-no-reboot", "-bios"])
        .arg(firmware.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if arch == Arch::X86_64 {
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    }
    let mut child = process::spawn(arch.emulator(), command)?;
    let deadline = Instant::now() + PROBE_LIMIT;
    loop {
        match child.try_wait().map_err(plumbing("wait for the probe"))? {
            Some(status) => return Ok(status.code() == Some(expected)),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            None => {
                // It hangs, which is an answer; killing a child that we own cannot fail.
                let _ = child.kill();
                let _ = child.wait();
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remembered_result_is_used_and_nonsense_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("accelerator");
        assert_eq!(recall(&file), None);
        std::fs::write(&file, "tcg\n").unwrap();
        assert_eq!(recall(&file), Some(Accelerator::Tcg));
        std::fs::write(&file, "warp").unwrap();
        assert_eq!(recall(&file), None);
    }

    #[test]
    fn only_the_hosts_own_architecture_can_have_kvm() {
        for arch in Arch::ALL {
            if Arch::of_host() != Some(arch) {
                assert_eq!(Accelerator::detect(arch), Accelerator::Tcg);
            }
        }
    }

    #[test]
    fn the_probe_ends_a_machine_that_works() {
        for arch in Arch::ALL {
            assert!(
                probe(arch, Accelerator::Tcg).unwrap(),
                "the probe of {} does not end",
                arch.name()
            );
        }
    }
}
