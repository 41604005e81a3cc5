//! Chooses between the processor's own virtualisation (KVM) and QEMU's translator (TCG).
//!
//! That `/dev/kvm` opens says little: in nested and filtered environments QEMU then dies on a
//! register that it may not set, or the guest never moves. So a guest of seven bytes is run.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::machine::{CPU, EMULATOR};
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

    /// KVM where it truly runs a guest, else TCG. The probe runs at most once per process and
    /// takes at most two seconds.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Accelerator> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            if Path::new("/dev/kvm").exists() && probe().unwrap_or(false) {
                Accelerator::Kvm
            } else {
                Accelerator::Tcg
            }
        })
    }

    /// As [`Accelerator::detect`], but remembers the result in a file for half a day, so that
    /// twenty test programs in a row probe once.
    pub fn detect_remembered(file: &Path) -> Self {
        if let Some(known) = recall(file) {
            return known;
        }
        let detected = Self::detect();
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

/// The exit code that QEMU makes of the value 0x21 at `isa-debug-exit`: `value << 1 | 1`.
const PROBE_EXIT: i32 = 0x43;

/// A firmware whose whole program stands at the reset vector, 16 bytes before the end.
fn probe_firmware() -> Vec<u8> {
    const SIZE: usize = 64 * 1024;
    const PROGRAM: [u8; 7] = [
        0xb0, 0x21, // mov al, 0x21
        0xe6, 0xf4, // out 0xf4, al
        0xf4, // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut firmware = vec![0xf4; SIZE];
    firmware[SIZE - 16..SIZE - 16 + PROGRAM.len()].copy_from_slice(&PROGRAM);
    firmware
}

/// Whether KVM runs the probe with the processor that our guests get.
fn probe() -> Result<bool> {
    let plumbing = |act| move |source| Error::Plumbing { act, source };
    let mut firmware =
        tempfile::NamedTempFile::new().map_err(plumbing("create the probe's firmware"))?;
    firmware
        .write_all(&probe_firmware())
        .map_err(plumbing("write the probe's firmware"))?;
    let mut command = process::command(EMULATOR);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35",
        ])
        .args(["-accel", "kvm", "-cpu", CPU, "-m", "16", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-bios"])
        .arg(firmware.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = process::spawn(EMULATOR, command)?;
    let deadline = Instant::now() + PROBE_LIMIT;
    loop {
        match child
            .try_wait()
            .map_err(plumbing("wait for the KVM probe"))?
        {
            Some(status) => return Ok(status.code() == Some(PROBE_EXIT)),
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
}
