//! Mounts as descriptors: made detached, restricted, and only then shown somewhere.
//!
//! A mount attached this way is never visible with more rights than it keeps, and no path that
//! somebody else could change meanwhile is resolved twice.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, symlinkat};
use rustix::io::Errno;
pub use rustix::mount::MountAttrFlags as Attributes;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{SysError, Told};

/// `struct mount_attr` (32 bytes, Linux 5.12).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A mount that is not attached anywhere yet; dropped, it vanishes.
#[derive(Debug)]
pub struct Tree {
    descriptor: OwnedFd,
    name: String,
}

impl Tree {
    /// A new instance of a file system, with its options.
    ///
    /// # Errors
    /// The kernel does not know the type or refuses an option.
    pub fn filesystem(
        fstype: &str,
        options: &[(&str, &str)],
        attributes: Attributes,
    ) -> Result<Self, SysError> {
        let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).told("make", fstype)?;
        for (key, value) in options {
            fsconfig_set_string(context.as_fd(), *key, *value)
                .told("make", format!("{fstype} with {key}={value}"))?;
        }
        fsconfig_create(context.as_fd()).told("make", fstype)?;
        let descriptor = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .told("make", fstype)?;
        Ok(Tree {
            descriptor,
            name: fstype.to_owned(),
        })
    }

    /// A second mount of what `source` is: a file, a socket, a device node, or a directory without
    /// the mounts below it.
    ///
    /// # Errors
    /// There is no `CAP_SYS_ADMIN`.
    pub fn bind(source: BorrowedFd<'_>, name: &Path) -> Result<Self, SysError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let descriptor = open_tree(source, "", flags).told("bind", name.display())?;
        Ok(Tree {
            descriptor,
            name: name.display().to_string(),
        })
    }

    /// Adds restrictions.
    ///
    /// # Errors
    /// The kernel is older than 5.12, or the mount is in use for writing.
    pub fn restrict(&self, attributes: Attributes) -> Result<(), SysError> {
        restrict_mount(self.descriptor.as_fd(), attributes, &self.name)
    }

    /// Shows the tree at `target`, a directory for a directory and a file for anything else.
    ///
    /// # Errors
    /// The kinds differ, or `target` is not in this mount namespace.
    pub fn attach(&self, target: BorrowedFd<'_>) -> Result<(), SysError> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(self.descriptor.as_fd(), "", target, "", flags).told("attach", &self.name)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Adds restrictions to the mount whose root `mount` is.
///
/// # Errors
/// `mount` is not the root of a mount, or the mount is in use for writing.
pub fn restrict_mount(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    name: &str,
) -> Result<(), SysError> {
    let change = MountAttributes {
        set: attributes.bits().into(),
        ..MountAttributes::default()
    };
    // SAFETY: `change` is a valid mount_attr of the size given, read during the call only; the
    // empty path is a C string, and AT_EMPTY_PATH makes the call act on the descriptor itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const change,
            size_of::<MountAttributes>(),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).told("restrict", name);
    }
    Ok(())
}

/// Opens a path for binding, refusing symbolic links anywhere in it: whoever may write to a
/// directory on the way must not choose what a sandbox gets to see.
///
/// # Errors
/// The path is missing or has a symbolic link in it (`ELOOP`).
pub fn open_source(path: &Path) -> Result<OwnedFd, SysError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).told("open", path.display())
}

/// Whether a descriptor is a directory.
///
/// # Errors
/// The file cannot be asked.
pub fn is_directory(file: BorrowedFd<'_>) -> Result<bool, SysError> {
    let status = rustix::fs::fstat(file).told("look at", "an open file")?;
    Ok(rustix::fs::FileType::from_raw_mode(status.st_mode).is_dir())
}

/// What stands at the end of a path that [`make_beneath`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// An empty file, as a place for a file, socket or device.
    File,
}

/// Opens `path` below `root`, making what is missing (directories 0755, file 0444), and following
/// neither `..` nor a symbolic link.
///
/// # Errors
/// Something on the way is a link or not a directory, or it cannot be made.
pub fn make_beneath(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<OwnedFd, SysError> {
    let directory_flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open_directory =
        |at: BorrowedFd<'_>, name: &OsStr| match openat(at, name, directory_flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                mkdirat(at, name, Mode::from_raw_mode(0o755))?;
                openat(at, name, directory_flags, Mode::empty())
            }
            other => other,
        };
    let mut opened: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let name = match component {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(SysError::refused("make", path.display(), "the path climbs"));
            }
        };
        let at = opened.as_ref().map_or(root, AsFd::as_fd);
        let last = components.peek().is_none();
        let next = if last && kind == Kind::File {
            open_file(at, name)
        } else {
            open_directory(at, name)
        };
        opened = Some(next.told("make", path.display())?);
    }
    opened.ok_or_else(|| SysError::refused("make", path.display(), "the path names nothing"))
}

/// Makes a symbolic link to `target` at `path` below `root`, with the directories on the way.
///
/// # Errors
/// As [`make_beneath`], or something is there already.
pub fn link_beneath(root: BorrowedFd<'_>, path: &Path, target: &str) -> Result<(), SysError> {
    let name = path
        .file_name()
        .ok_or_else(|| SysError::refused("make", path.display(), "the path names nothing"))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = make_beneath(root, parent, Kind::Directory)?;
    symlinkat(target, directory, name).told("make", path.display())
}

fn open_file(at: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, name, flags, Mode::from_raw_mode(0o444))
        }
        other => other,
    }
}

/// Opens a directory for use as the root of [`make_beneath`].
///
/// # Errors
/// It is missing.
pub fn open_directory(path: &Path) -> Result<OwnedFd, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).told("open", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_and_links_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = open_directory(directory.path()).unwrap();
        make_beneath(root.as_fd(), Path::new("/a/b/file"), Kind::File).unwrap();
        assert!(directory.path().join("a/b/file").is_file());
        let again = make_beneath(root.as_fd(), Path::new("/a/b"), Kind::Directory).unwrap();
        assert!(is_directory(again.as_fd()).unwrap());
        std::os::unix::fs::symlink("/", directory.path().join("a/link")).unwrap();
        assert!(make_beneath(root.as_fd(), Path::new("/a/link/x"), Kind::Directory).is_err());
        assert!(make_beneath(root.as_fd(), Path::new("/a/../x"), Kind::Directory).is_err());
        let error = open_source(&directory.path().join("a/link/etc")).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }
}
