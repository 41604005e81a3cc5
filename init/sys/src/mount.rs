//! Mounting by path: what PID 1 does at boot and undoes at the end.
//!
//! Sandboxes are built with [`crate::tree`] instead, which follows no path twice.

use std::ffi::CString;
use std::path::Path;

pub use rustix::mount::{MountFlags, UnmountFlags};
use rustix::mount::{
    MountPropagationFlags, mount as mount_call, mount_bind, mount_bind_recursive, mount_change,
    mount_move, mount_remount,
};
use rustix::process::{chdir, chroot, pivot_root};

use crate::error::{SysError, Told};
use crate::kernel_file;

/// Mounts a file system. `source` is a device or any name; `data` is the file system's own options.
///
/// # Errors
/// The target is missing, or the kernel does not know the type or refuses the options.
pub fn mount(
    source: &str,
    target: &Path,
    fstype: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), SysError> {
    let subject = || format!("{fstype} {source} at {}", target.display());
    let data = CString::new(data).told("mount", subject())?;
    let data = (!data.is_empty()).then_some(data.as_c_str());
    mount_call(source, target, fstype, flags, data).told("mount", subject())
}

/// Shows `source` at `target` as well. With [`MountFlags::REC`] the mounts below it come along.
/// Further flags take a second call, as the kernel ignores them in the first.
///
/// # Errors
/// One of the two is missing, or the kernel refuses a flag.
pub fn bind(source: &Path, target: &Path, flags: MountFlags) -> Result<(), SysError> {
    let subject = || format!("{} at {}", source.display(), target.display());
    if flags.contains(MountFlags::REC) {
        mount_bind_recursive(source, target).told("bind", subject())?;
    } else {
        mount_bind(source, target).told("bind", subject())?;
    }
    let flags = flags - MountFlags::REC;
    if flags.is_empty() {
        return Ok(());
    }
    remount(target, flags | MountFlags::BIND, "")
}

/// Changes the flags of a mount (with [`MountFlags::BIND`]) or of its file system (without).
///
/// # Errors
/// `target` is no mount point, or is in use for writing when it is to become read-only.
pub fn remount(target: &Path, flags: MountFlags, data: &str) -> Result<(), SysError> {
    mount_remount(target, flags, data).told("remount", target.display())
}

/// Cuts `target` and everything below it off from the mounts of other namespaces.
///
/// # Errors
/// `target` is no mount point.
pub fn make_private(target: &Path) -> Result<(), SysError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(target, flags).told("make private", target.display())
}

/// Leaves the kernel's rootfs for a mount of its own, at the same files.
///
/// `pivot_root` fails while `/` is the initial rootfs, which cannot be replaced; so everything is
/// bound to the empty directory `through`, moved over `/`, and made the root of this process.
/// Mounts that exist already come along. Children get the new root; PID 1 does this once, before
/// it starts anything.
///
/// # Errors
/// `through` is missing, or there is no `CAP_SYS_ADMIN`.
pub fn move_root(through: &Path) -> Result<(), SysError> {
    mount_bind_recursive("/", through).told("bind the root to", through.display())?;
    chdir(through).told("enter", through.display())?;
    mount_move(".", "/").told("move the root from", through.display())?;
    chroot(".").told("make the root", through.display())?;
    chdir("/").told("enter", "/")
}

/// Makes the mount point `new_root` the root of this mount namespace and lets go of the old one.
///
/// # Errors
/// `new_root` is no mount point of its own, or `/` is the kernel's rootfs (see [`move_root`]).
pub fn pivot_into(new_root: &Path) -> Result<(), SysError> {
    chdir(new_root).told("enter", new_root.display())?;
    // Both paths the same: the old root lands on top of the new one and is taken off again, so
    // no directory for it is needed.
    pivot_root(".", ".").told("pivot into", new_root.display())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).told("detach", "the old root")?;
    chdir("/").told("enter", "/")
}

/// Unmounts what is mounted at `target`, following no symbolic link there.
///
/// # Errors
/// Nothing is mounted there, or it is in use (unless [`UnmountFlags::DETACH`]).
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<(), SysError> {
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW).told("unmount", target.display())
}

/// Whether something is mounted at `target`, by `proc_root/self/mountinfo`.
///
/// # Errors
/// The list cannot be read.
pub fn is_mounted(proc_root: &Path, target: &Path) -> Result<bool, SysError> {
    let text = kernel_file::read(&proc_root.join("self/mountinfo"))?;
    // Only blanks and the backslash are written as octal there; kOS mounts at no such name.
    Ok(text
        .lines()
        .any(|line| line.split(' ').nth(4).map(Path::new) == Some(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_whole() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("self")).unwrap();
        let line = "36 35 98:0 / /data rw,noatime shared:1 - ext4 /dev/vda rw\n";
        std::fs::write(root.path().join("self/mountinfo"), line).unwrap();
        assert!(is_mounted(root.path(), Path::new("/data")).unwrap());
        assert!(!is_mounted(root.path(), Path::new("/dat")).unwrap());
        assert!(!is_mounted(root.path(), Path::new("/dev/vda")).unwrap());
    }

    /// The way of PID 1 from the rootfs and of a launcher into its sandbox, in a mount namespace
    /// and with a root of this thread's own.
    #[test]
    fn the_root_is_moved_and_then_left() {
        use rustix::thread::UnshareFlags;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let thread = std::thread::spawn(move || {
            // SAFETY: a mount namespace and file-system attributes of this thread's own; no
            // descriptor table is unshared, which is what the call can break.
            let own =
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
            if let Err(error) = own {
                eprintln!("skipped: no mount namespace of its own: {error}");
                return;
            }
            make_private(Path::new("/")).unwrap();
            let through = path.join("through");
            std::fs::create_dir(&through).unwrap();
            move_root(&through).unwrap();
            // The same files, and still the directory that it went through, empty again.
            assert!(Path::new("/proc/self").exists());
            assert_eq!(std::fs::read_dir(&through).unwrap().count(), 0);
            mount("none", &through, "tmpfs", MountFlags::NODEV, "size=64k").unwrap();
            std::fs::write(through.join("file"), "x").unwrap();
            pivot_into(&through).unwrap();
            let names: Vec<_> = std::fs::read_dir("/")
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names, ["file"]);
        });
        assert!(thread.join().is_ok());
    }
}
