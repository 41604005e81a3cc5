//! Project quotas: how many bytes and files a directory with all below it may hold.
//!
//! A directory is given a project number that everything made in it inherits, and the file system
//! (ext4 with the features `quota` and `project`, mounted with `prjquota`) counts and limits by that
//! number. Nothing inside a sandbox can change it: that wants the initial user namespace, and the
//! system calls of quotas are in no set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use crate::error::{SysError, Told};

/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`.
const GET_ATTRIBUTES: u32 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`: `_IOW('X', 32, struct fsxattr)`.
const SET_ATTRIBUTES: u32 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in a directory gets the directory's project.
const INHERIT_PROJECT: u32 = 0x200;

/// `QCMD(command, PRJQUOTA)`.
const fn project_command(command: i32) -> i32 {
    const PROJECT_QUOTAS: i32 = 2;
    command << 8 | PROJECT_QUOTAS
}
/// `Q_GETQUOTA`.
const GET_QUOTA: i32 = project_command(0x80_0007);
/// `Q_SETQUOTA`.
const SET_QUOTA: i32 = project_command(0x80_0008);

/// Block limits are counted in these (`QIF_DQBLKSIZE`).
const LIMIT_BLOCK_BYTES: u64 = 1024;
/// `QIF_BLIMITS | QIF_ILIMITS`.
const VALID_LIMITS: u32 = 1 | 4;

/// Directories in directories that are gone through; a service can make more, and PID 1 does not
/// follow it there: what lies deeper was counted when it was made, or belongs to nobody's quota.
const MAX_DEPTH: usize = 64;
/// Entries that are looked at in one go through a directory.
const MAX_ENTRIES: usize = 1 << 20;

/// `struct fsxattr` (28 bytes).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    copy_extent_bytes: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk` (72 bytes).
#[repr(C)]
#[derive(Default)]
struct Quota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    bytes_used: u64,
    file_hard_limit: u64,
    file_soft_limit: u64,
    files_used: u64,
    block_grace: u64,
    file_grace: u64,
    valid: u32,
}

/// What a project may hold at most. Zero is no limit, as in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Bytes, rounded up to whole KiB.
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
}

/// What a project holds, and may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
    /// The limit.
    pub limit: Limit,
}

/// Whether an error says that this file system has no project quotas (made without the features,
/// mounted without the option, memory, a kernel without them).
pub fn is_unsupported(error: &SysError) -> bool {
    const NONE: [i32; 6] = [
        libc::ENOTTY,
        libc::EOPNOTSUPP,
        libc::ESRCH,
        libc::ENOSYS,
        libc::ENOTSUP,
        libc::EINVAL,
    ];
    error.errno().is_some_and(|errno| NONE.contains(&errno))
}

/// Gives an open directory its project, and what will be made in it.
///
/// # Errors
/// See [`is_unsupported`]; or there is no `CAP_SYS_RESOURCE`.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<(), SysError> {
    change(directory, project, INHERIT_PROJECT)
}

/// The project of an open file or directory; 0 is none.
///
/// # Errors
/// See [`is_unsupported`].
pub fn project(file: BorrowedFd<'_>) -> Result<u32, SysError> {
    attributes(file).map(|attributes| attributes.project)
}

/// Gives a directory its project, and everything that is in it already: what an older kOS left
/// there is to be counted too. When the directory has the project, so has what is in it, and
/// nothing is done; so the directory itself comes last.
///
/// It follows no links and leaves the file system nowhere; sockets, pipes and links, which cannot
/// be opened, keep no blocks and are passed over.
///
/// # Errors
/// As [`set_project`]; or the directory cannot be read.
pub fn adopt(directory: BorrowedFd<'_>, project: u32) -> Result<(), SysError> {
    let now = attributes(directory)?;
    if now.project == project && now.flags & INHERIT_PROJECT != 0 {
        return Ok(());
    }
    let device = device_of(directory)?;
    let mut left = MAX_ENTRIES;
    adopt_below(directory, project, device, MAX_DEPTH, &mut left)?;
    set_project(directory, project)
}

fn adopt_below(
    directory: BorrowedFd<'_>,
    project: u32,
    device: u64,
    depth: usize,
    left: &mut usize,
) -> Result<(), SysError> {
    if depth == 0 {
        return Ok(());
    }
    let entries = Dir::read_from(directory).told("list", "a directory for its quota")?;
    for entry in entries {
        let entry = entry.told("list", "a directory for its quota")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        *left = left.checked_sub(1).ok_or_else(|| {
            SysError::refused("count", "a directory's files", "it has too many of them")
        })?;
        let Ok(status) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = FileType::from_raw_mode(status.st_mode);
        if !matches!(kind, FileType::Directory | FileType::RegularFile) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(directory, name, flags, Mode::empty()) else {
            continue;
        };
        // Opened, it is what it is; before, it was what its name said.
        if device_of(file.as_fd())? != device {
            continue;
        }
        if kind == FileType::Directory {
            adopt_below(file.as_fd(), project, device, depth - 1, left)?;
            set_project(file.as_fd(), project)?;
        } else {
            change(file.as_fd(), project, 0)?;
        }
    }
    Ok(())
}

fn device_of(file: BorrowedFd<'_>) -> Result<u64, SysError> {
    rustix::fs::fstat(file)
        .map(|status| status.st_dev)
        .told("look at", "an open file")
}

/// Sets what a project may hold; `inside` is any directory of the file system.
///
/// # Errors
/// See [`is_unsupported`].
pub fn set_limit(inside: BorrowedFd<'_>, project: u32, limit: Limit) -> Result<(), SysError> {
    let mut quota = Quota {
        block_hard_limit: limit.bytes.div_ceil(LIMIT_BLOCK_BYTES),
        file_hard_limit: limit.files,
        valid: VALID_LIMITS,
        ..Quota::default()
    };
    control(inside, SET_QUOTA, project, &mut quota).told("limit", format!("project {project}"))
}

/// What a project holds, and may hold.
///
/// # Errors
/// See [`is_unsupported`].
pub fn usage(inside: BorrowedFd<'_>, project: u32) -> Result<Usage, SysError> {
    let mut quota = Quota::default();
    control(inside, GET_QUOTA, project, &mut quota)
        .told("read", format!("the quota of project {project}"))?;
    Ok(Usage {
        bytes: quota.bytes_used,
        files: quota.files_used,
        limit: Limit {
            bytes: quota.block_hard_limit.saturating_mul(LIMIT_BLOCK_BYTES),
            files: quota.file_hard_limit,
        },
    })
}

fn control(
    inside: BorrowedFd<'_>,
    command: i32,
    project: u32,
    quota: &mut Quota,
) -> io::Result<()> {
    // SAFETY: the command reads or writes one `if_dqblk`, which `quota` is and which outlives the
    // call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            inside.as_raw_fd(),
            command,
            project,
            &raw mut *quota,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn attributes(file: BorrowedFd<'_>) -> Result<Attributes, SysError> {
    let mut attributes = Attributes::default();
    // SAFETY: the request writes one `fsxattr`, which `attributes` is.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES as _, &raw mut attributes) };
    if result < 0 {
        return Err(io::Error::last_os_error()).told("read", "a directory's project");
    }
    Ok(attributes)
}

fn change(file: BorrowedFd<'_>, project: u32, add: u32) -> Result<(), SysError> {
    let mut attributes = attributes(file)?;
    attributes.project = project;
    attributes.flags |= add;
    // SAFETY: the request reads one `fsxattr`, which `attributes` is.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), SET_ATTRIBUTES as _, &raw const attributes) };
    if result < 0 {
        return Err(io::Error::last_os_error()).told("give a directory project", project);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Quota>(), 72);
        assert_eq!((GET_QUOTA, SET_QUOTA), (-2147481854, -2147481598));
    }

    /// What it does is seen in a guest, where the file system has quotas; here, that a file system
    /// without them says so in a way that is understood.
    #[test]
    fn memory_has_no_quotas_and_says_so() {
        use crate::tree::{Attributes as MountAttributes, Tree};
        let Ok(tree) = Tree::filesystem("proc", &[], MountAttributes::empty()) else {
            eprintln!("skipped: no file system can be made");
            return;
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = openat(tree.as_fd(), ".", flags, Mode::empty()).unwrap();
        for error in [
            adopt(root.as_fd(), 1001).unwrap_err(),
            set_limit(root.as_fd(), 1001, Limit::default()).unwrap_err(),
            usage(root.as_fd(), 1001).unwrap_err(),
        ] {
            assert!(is_unsupported(&error), "{}", error.full());
        }
    }
}
