//! Kernel parameters under `/proc/sys`.

use std::path::{Path, PathBuf};

use crate::error::SysError;
use crate::kernel_file;

/// The parameters below one root: `/proc/sys`, or a test's directory.
#[derive(Debug, Clone)]
pub struct Sysctl {
    root: PathBuf,
}

impl Sysctl {
    /// Parameters below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Sysctl { root: root.into() }
    }

    /// Writes one parameter, named with dots (`net.ipv4.ip_unprivileged_port_start`).
    ///
    /// # Errors
    /// The kernel has no such parameter or refuses the value.
    pub fn write(&self, name: &str, value: &str) -> Result<(), SysError> {
        kernel_file::write(&self.root.join(name.replace('.', "/")), value)
    }
}

/// Writes one parameter below `/proc/sys`.
///
/// # Errors
/// As [`Sysctl::write`].
pub fn write(name: &str, value: &str) -> Result<(), SysError> {
    Sysctl::new(Path::new("/proc/sys")).write(name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_path() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("net/ipv4")).unwrap();
        let file = root.path().join("net/ipv4/ip_forward");
        std::fs::write(&file, "").unwrap();
        Sysctl::new(root.path())
            .write("net.ipv4.ip_forward", "0")
            .unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "0");
    }

    #[test]
    fn a_missing_parameter_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error = Sysctl::new(root.path())
            .write("kernel.nothing", "1")
            .unwrap_err();
        assert!(error.to_string().contains("kernel/nothing"), "{error}");
        assert_eq!(error.errno(), Some(libc::ENOENT));
    }
}
