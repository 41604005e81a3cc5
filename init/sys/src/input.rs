//! The power button: which input devices have one, and whether it was pressed.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{SysError, Told};
use crate::kernel_file;

/// `KEY_POWER`.
const KEY_POWER: u16 = 116;

/// `EV_KEY`.
const EVENT_KEY: u16 = 1;

/// More input devices than a board of kOS has, so that a listing ends.
const MAX_DEVICES: usize = 256;

/// `struct input_event` on 64-bit kernels: two times of 8 bytes, type, code, value.
const EVENT_BYTES: usize = 24;

/// Opens every input device that has a power key: `sys_root/class/input/event*` says which,
/// `dev_root/input` has the nodes. A device that cannot be opened is passed over.
///
/// # Errors
/// The devices cannot be listed; having none is no error.
pub fn power_buttons(
    sys_root: &Path,
    dev_root: &Path,
) -> Result<Vec<(PathBuf, OwnedFd)>, SysError> {
    let directory = sys_root.join("class/input");
    let listing = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.told("list", directory.display())?,
    };
    let mut buttons = Vec::new();
    for entry in listing.take(MAX_DEVICES) {
        let name = entry.told("list", directory.display())?.file_name();
        if !name.to_string_lossy().starts_with("event") {
            continue;
        }
        let keys = directory.join(&name).join("device/capabilities/key");
        if !kernel_file::read(&keys).is_ok_and(|text| has_key(&text, KEY_POWER)) {
            continue;
        }
        let node = dev_root.join("input").join(&name);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(device) = rustix::fs::open(&node, flags, Mode::empty()) {
            buttons.push((node, device));
        }
    }
    Ok(buttons)
}

/// Reads all that a device has for us without waiting; true when the power key went down.
///
/// # Errors
/// The device is gone.
pub fn read_power_key(device: BorrowedFd<'_>) -> Result<bool, SysError> {
    let mut pressed = false;
    let mut events = [0u8; EVENT_BYTES * 16];
    loop {
        match rustix::io::read(device, &mut events) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(pressed),
            Ok(length) => {
                for event in events[..length].chunks_exact(EVENT_BYTES) {
                    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
                    // Value 1 is down, 0 is up, 2 repeats: all fit the first half on the
                    // little-endian machines of kOS.
                    pressed |= half(16) == EVENT_KEY && half(18) == KEY_POWER && half(20) == 1;
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).told("read", "a power button"),
        }
    }
}

/// Whether a bitmap of sysfs (64-bit words in hexadecimal, the last word first) has this bit.
fn has_key(bitmap: &str, key: u16) -> bool {
    let word = bitmap
        .split_ascii_whitespace()
        .rev()
        .nth(usize::from(key / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (key % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_devices_with_a_power_key_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path().join("sys"), root.path().join("dev"));
        assert!(power_buttons(&sys, &dev).unwrap().is_empty());
        std::fs::create_dir_all(dev.join("input")).unwrap();
        // As on a PC: an ACPI power button, and a mouse.
        for (name, keys) in [
            ("event0", "10000000000000 0\n"),
            ("event1", "1f0000 0 0 0 0\n"),
        ] {
            let device = sys
                .join("class/input")
                .join(name)
                .join("device/capabilities");
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("key"), keys).unwrap();
            std::fs::write(dev.join("input").join(name), "").unwrap();
        }
        let buttons = power_buttons(&sys, &dev).unwrap();
        assert_eq!(buttons.len(), 1);
        assert!(buttons[0].0.ends_with("input/event0"));
        assert!(!read_power_key(buttons[0].1.as_fd()).unwrap());
    }

    #[test]
    fn a_press_is_told_from_a_release() {
        let event = |value: i32| {
            let mut bytes = vec![0u8; 16];
            bytes.extend(EVENT_KEY.to_ne_bytes());
            bytes.extend(KEY_POWER.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        let (reader, writer) = crate::sockets::pipe_cloexec_nonblocking().unwrap();
        rustix::io::write(&writer, &event(0)).unwrap();
        assert!(!read_power_key(reader.as_fd()).unwrap());
        rustix::io::write(&writer, &[event(1), event(0)].concat()).unwrap();
        assert!(read_power_key(reader.as_fd()).unwrap());
    }
}
