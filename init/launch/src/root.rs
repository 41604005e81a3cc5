//! The sandbox's file system: an empty tmpfs in which exactly what the spec names appears.
//!
//! Every source is opened before anything is mounted, without following a symbolic link, and every
//! mount is restricted before it is attached. So nothing outside can change what is bound, and
//! nothing is ever visible with more rights than it keeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kos_manifest::launch::{Access, CREDENTIALS_DIRECTORY, LaunchSpec, View};
use kos_sys::tree::{
    Attributes, Kind, Tree, is_directory, make_beneath, open_directory, open_source,
};
use kos_sys::{mount, process, sysctl, tree};

use crate::descriptors;

/// Where the new root is put together: the image has the first; the second is everywhere, and what
/// it hides is opened already. Nobody but this process ever sees it there.
const PLACES: [&str; 2] = ["/sandbox", "/tmp"];

/// The root holds only empty places for mounts.
const ROOT_OPTIONS: [(&str, &str); 3] = [("size", "64k"), ("mode", "0755"), ("nr_inodes", "1k")];

/// `/dev` holds only empty places for nodes.
const DEV_OPTIONS: [(&str, &str); 3] = [("size", "16k"), ("mode", "0755"), ("nr_inodes", "64")];

/// An empty directory.
const COVER_OPTIONS: [(&str, &str); 3] = [("size", "4k"), ("mode", "0555"), ("nr_inodes", "2")];

/// A file of `/tmp` costs the kernel about a page beside its content, so there may be as many
/// files as pages, and at least a few.
const BYTES_PER_TMP_FILE: u64 = 4096;
const FEWEST_TMP_FILES: u64 = 64;

/// What of `/proc` stays, for a service that is shown anything of it, besides the processes
/// themselves: what runtimes ask to size themselves.
const PROC_VISIBLE: [&str; 9] = [
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "uptime",
    "version",
    "vmstat",
    "swaps",
];

/// What is in the sandbox, for Landlock, and the way back to what is not.
#[derive(Debug)]
pub struct Contents {
    /// Paths with what may be done there.
    pub views: Vec<(PathBuf, Access)>,
    /// Device nodes.
    pub devices: Vec<PathBuf>,
    /// The machine's `/proc`, which can be written to, for the mapping of a user namespace. It
    /// closes when the program is executed.
    pub outer_proc: OwnedFd,
}

/// What is opened before the first mount.
struct Sources {
    program: OwnedFd,
    views: Vec<(View, OwnedFd)>,
    devices: Vec<(PathBuf, OwnedFd)>,
    null: OwnedFd,
    place: PathBuf,
}

/// Builds the new root and makes it `/`; the old one is gone afterwards.
pub fn build(spec: &LaunchSpec) -> Result<Contents> {
    let sources = open_sources(spec)?;
    // The places are made with the rights that they are to have, whatever PID 1's mask was.
    process::set_umask(0o022);
    mount::make_private(Path::new("/"))?;
    let place = sources.place.as_path();
    Tree::filesystem("tmpfs", &ROOT_OPTIONS, nothing_special())?
        .attach(open_directory(place)?.as_fd())?;
    // Opened again: now it is the new mount.
    let root = open_directory(place)?;
    let mut contents = Contents {
        views: Vec::new(),
        devices: Vec::new(),
        outer_proc: open_directory(Path::new("/proc"))?,
    };
    if !spec.writable_code {
        forbid_executable_memory_files()?;
    }
    mount_proc(&root, &sources, &mut contents)?;
    mount_devices(&root, &sources, &mut contents)?;
    mount_tmp(&root, spec.tmp_bytes, &mut contents)?;
    for (view, source) in &sources.views {
        show(&root, source, &view.target, view.access)
            .with_context(|| format!("cannot show {}", view.target.display()))?;
        contents.views.push((view.target.clone(), view.access));
    }
    // After the views: one of them may be the directory that it lies in.
    show(&root, &sources.program, &spec.program, Access::Execute)
        .with_context(|| format!("cannot show the program {}", spec.program.display()))?;
    contents.views.push((spec.program.clone(), Access::Execute));
    name_credentials(&root, spec, &mut contents)?;
    tree::restrict_mount(root.as_fd(), Attributes::MOUNT_ATTR_RDONLY, "the new root")?;
    mount::pivot_into(place)?;
    Ok(contents)
}

fn open_sources(spec: &LaunchSpec) -> Result<Sources> {
    let mut views = Vec::with_capacity(spec.view.len());
    for view in &spec.view {
        match open_source(&view.source) {
            Ok(source) => views.push((view.clone(), source)),
            Err(error) if view.optional && is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut devices = Vec::with_capacity(spec.devices.len());
    for name in &spec.devices {
        ensure!(
            !name.contains("..") && !name.starts_with('/'),
            "the device name {name} climbs"
        );
        let path = Path::new("/dev").join(name);
        let node = open_source(&path)?;
        devices.push((path, node));
    }
    let place = PLACES.iter().map(PathBuf::from).find(|path| path.is_dir());
    Ok(Sources {
        program: open_source(&spec.program)?,
        views,
        devices,
        null: open_source(Path::new("/dev/null"))?,
        place: place.context("there is no directory to mount the sandbox at")?,
    })
}

fn is_missing(error: &kos_sys::SysError) -> bool {
    error.source.kind() == std::io::ErrorKind::NotFound
}

/// What no mount of a sandbox has, executables aside.
fn nothing_special() -> Attributes {
    Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC
}

fn attributes(access: Access) -> Attributes {
    let plain = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
    match access {
        Access::Read => plain | Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOEXEC,
        Access::Execute => plain | Attributes::MOUNT_ATTR_RDONLY,
        Access::Write => plain | Attributes::MOUNT_ATTR_NOEXEC,
    }
}

/// Binds an opened source at a path of the sandbox.
fn show(root: &OwnedFd, source: &OwnedFd, target: &Path, access: Access) -> Result<()> {
    bind(root, source, target, attributes(access))
}

fn bind(root: &OwnedFd, source: &OwnedFd, target: &Path, attributes: Attributes) -> Result<()> {
    let kind = if is_directory(source.as_fd())? {
        Kind::Directory
    } else {
        Kind::File
    };
    let tree = Tree::bind(source.as_fd(), target)?;
    tree.restrict(attributes)?;
    let place = make_beneath(root.as_fd(), target, kind)?;
    tree.attach(place.as_fd())?;
    Ok(())
}

fn attach(root: BorrowedFd<'_>, tree: &Tree, target: &str) -> Result<()> {
    let place = make_beneath(root, Path::new(target), Kind::Directory)?;
    tree.attach(place.as_fd())?;
    Ok(())
}

/// The sandbox's own processes, read-only; those that the program may not look into, the launcher
/// first of all, are not even seen. The rest of `/proc` does not exist, unless a view is going to show
/// something of it: then [`PROC_VISIBLE`] and that stay, and everything else is covered.
fn mount_proc(root: &OwnedFd, sources: &Sources, contents: &mut Contents) -> Result<()> {
    let shown = |view: &View| view.target.starts_with("/proc");
    let whole = sources.views.iter().any(|(view, _)| shown(view));
    let mut options = vec![("hidepid", "invisible")];
    if !whole {
        options.push(("subset", "pid"));
    }
    let proc = Tree::filesystem("proc", &options, nothing_special())?;
    attach(root.as_fd(), &proc, "/proc")?;
    proc.restrict(Attributes::MOUNT_ATTR_RDONLY)?;
    if whole {
        cover_proc(root, sources)?;
    }
    contents.views.push((PathBuf::from("/proc"), Access::Read));
    Ok(())
}

/// Covers what is not to be seen: a directory by an empty one, a file by `/dev/null`.
fn cover_proc(root: &OwnedFd, sources: &Sources) -> Result<()> {
    let at = make_beneath(root.as_fd(), Path::new("/proc"), Kind::Directory)?;
    let mut covers = Covers::default();
    for entry in std::fs::read_dir(sources.place.join("proc")).context("cannot list /proc")? {
        let entry = entry.context("cannot list /proc")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = Path::new("/proc").join(&name);
        let kind = entry.file_type().context("cannot list /proc")?;
        let is_process = name.bytes().all(|byte| byte.is_ascii_digit());
        let wanted = sources
            .views
            .iter()
            .any(|(view, _)| view.target.starts_with(&target));
        // `self`, `thread-self`, `net` and `mounts` are links into the process.
        if is_process || kind.is_symlink() || wanted || PROC_VISIBLE.contains(&name.as_str()) {
            continue;
        }
        let kind = if kind.is_dir() {
            Kind::Directory
        } else {
            Kind::File
        };
        covers.cover(at.as_fd(), Path::new(&name), kind, &sources.null)?;
    }
    Ok(())
}

/// What hides names of `/proc`. The first cover of each kind is restricted; the others are second
/// mounts of it and inherit that, which saves most of the system calls of a launch.
#[derive(Default)]
struct Covers {
    directory: Option<OwnedFd>,
    file: Option<OwnedFd>,
}

impl Covers {
    fn cover(&mut self, at: BorrowedFd<'_>, name: &Path, kind: Kind, null: &OwnedFd) -> Result<()> {
        let place = make_beneath(at, name, kind)?;
        let first = match kind {
            Kind::Directory => &mut self.directory,
            Kind::File => &mut self.file,
        };
        if let Some(first) = first {
            Tree::bind(first.as_fd(), name)?.attach(place.as_fd())?;
            return Ok(());
        }
        // Without `nodev`: a null device that cannot be opened confuses more than an empty file.
        let read_only = Attributes::MOUNT_ATTR_RDONLY
            | Attributes::MOUNT_ATTR_NOSUID
            | Attributes::MOUNT_ATTR_NOEXEC;
        let tree = match kind {
            Kind::Directory => Tree::filesystem("tmpfs", &COVER_OPTIONS, read_only)?,
            Kind::File => Tree::bind(null.as_fd(), name)?,
        };
        tree.restrict(read_only)?;
        tree.attach(place.as_fd())?;
        // Opened again: now it is the cover.
        *first = Some(make_beneath(at, name, kind)?);
        Ok(())
    }
}

/// No memory file of this pid namespace is executable, and none can be asked for that is (the
/// system-call filter forbids it, too). A kernel older than 6.3 has no such setting.
fn forbid_executable_memory_files() -> Result<()> {
    match sysctl::write("vm.memfd_noexec", "2") {
        Err(error) if !is_missing(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn mount_devices(root: &OwnedFd, sources: &Sources, contents: &mut Contents) -> Result<()> {
    if sources.devices.is_empty() {
        return Ok(());
    }
    let dev = Tree::filesystem("tmpfs", &DEV_OPTIONS, nothing_special())?;
    attach(root.as_fd(), &dev, "/dev")?;
    for (path, node) in &sources.devices {
        let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
        bind(root, node, path, attributes)?;
        contents.devices.push(path.clone());
    }
    dev.restrict(Attributes::MOUNT_ATTR_RDONLY)?;
    Ok(())
}

/// The secrets' names are links in the new root itself, and cost no mount.
fn name_credentials(root: &OwnedFd, spec: &LaunchSpec, contents: &mut Contents) -> Result<()> {
    if spec.credentials.is_empty() {
        return Ok(());
    }
    for (path, target) in descriptors::credential_links(spec) {
        tree::link_beneath(root.as_fd(), &path, &target)?;
    }
    let directory = PathBuf::from(CREDENTIALS_DIRECTORY);
    contents.views.push((directory, Access::Read));
    Ok(())
}

fn mount_tmp(root: &OwnedFd, bytes: u64, contents: &mut Contents) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let files = (bytes / BYTES_PER_TMP_FILE)
        .max(FEWEST_TMP_FILES)
        .to_string();
    let size = bytes.to_string();
    let options = [
        ("size", size.as_str()),
        ("mode", "1777"),
        ("nr_inodes", files.as_str()),
    ];
    let tmp = Tree::filesystem("tmpfs", &options, nothing_special())?;
    attach(root.as_fd(), &tmp, "/tmp")?;
    contents.views.push((PathBuf::from("/tmp"), Access::Write));
    Ok(())
}
