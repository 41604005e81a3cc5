//! What runs before the guest's kernel: QEMU's own way, UEFI, or an image such as U-Boot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::disk::escape_commas;
use crate::error::{Error, Result};
use crate::platform::Arch;

/// The firmware of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU puts the kernel into memory and starts it.
    Direct,
    /// UEFI in flash memory.
    Uefi {
        /// The program, which the guest may only read.
        code: PathBuf,
        /// The variables as they are when the machine is new: each guest gets a copy.
        variables: PathBuf,
    },
    /// A file that QEMU puts where the processor begins.
    Image(PathBuf),
}

impl Firmware {
    /// UEFI of this architecture, as Debian's `ovmf` and `qemu-efi-aarch64` install it.
    pub fn uefi(arch: Arch) -> Self {
        let (code, variables) = match arch {
            Arch::X86_64 => (
                "/usr/share/OVMF/OVMF_CODE_4M.fd",
                "/usr/share/OVMF/OVMF_VARS_4M.fd",
            ),
            Arch::Aarch64 => (
                "/usr/share/AAVMF/AAVMF_CODE.fd",
                "/usr/share/AAVMF/AAVMF_VARS.fd",
            ),
        };
        Firmware::Uefi {
            code: code.into(),
            variables: variables.into(),
        }
    }

    /// Its files, with what each is.
    pub(crate) fn files(&self) -> Vec<(&'static str, &Path)> {
        match self {
            Firmware::Direct => Vec::new(),
            Firmware::Uefi { code, variables } => {
                vec![
                    ("firmware", code),
                    ("firmware's variables", variables.as_path()),
                ]
            }
            Firmware::Image(path) => vec![("firmware", path.as_path())],
        }
    }

    /// Makes what belongs to one guest alone.
    pub(crate) fn prepare(&self) -> Result<Prepared> {
        let Firmware::Uefi { code, variables } = self else {
            let image = match self {
                Firmware::Image(path) => Some(path.clone()),
                _ => None,
            };
            return Ok(Prepared::Plain(image));
        };
        let plumbing = |source| Error::Plumbing {
            act: "copy the firmware's variables",
            source,
        };
        let directory = TempDir::with_prefix("kos-firmware-").map_err(plumbing)?;
        std::fs::copy(variables, directory.path().join(VARIABLES)).map_err(plumbing)?;
        Ok(Prepared::Uefi {
            code: code.clone(),
            directory,
        })
    }
}

const VARIABLES: &str = "variables.fd";

/// The firmware of one guest. The guest's own files are gone when this is.
#[derive(Debug)]
pub(crate) enum Prepared {
    Plain(Option<PathBuf>),
    Uefi { code: PathBuf, directory: TempDir },
}

impl Prepared {
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        match self {
            Prepared::Plain(None) => Vec::new(),
            Prepared::Plain(Some(image)) => vec!["-bios".into(), image.into()],
            Prepared::Uefi { code, directory } => {
                let flash = |options: &str, path: &Path| {
                    let mut drive = OsString::from(format!("if=pflash,format=raw,{options},file="));
                    drive.push(escape_commas(path.as_os_str()));
                    drive
                };
                vec![
                    "-drive".into(),
                    flash("unit=0,readonly=on", code),
                    "-drive".into(),
                    flash("unit=1", &directory.path().join(VARIABLES)),
                ]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_has_variables_of_its_own_that_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        };
        let firmware = Firmware::Uefi {
            code: file("code"),
            variables: file("new"),
        };
        let (first, second) = (firmware.prepare().unwrap(), firmware.prepare().unwrap());
        assert_ne!(first.arguments(), second.arguments());
        let Prepared::Uefi {
            directory: copied, ..
        } = &first
        else {
            panic!("not UEFI: {first:?}");
        };
        let copy = copied.path().join(VARIABLES);
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), "new");
        drop(first);
        assert!(!copy.exists());
    }
}
