//! What the host must have besides Rust, and how it gets there: Debian's packages.
//!
//! A thing that is there already, from wherever, is not installed again.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::stage::{Stage, Stages};

/// One thing that must be on the host.
pub struct Need {
    /// How its presence shows.
    probe: Probe,
    /// The Debian package that brings it.
    package: &'static str,
}

enum Probe {
    /// A program in `$PATH` or in the administrator's directories.
    Program(&'static str),
    /// A file, such as a header.
    File(&'static str),
}

const fn program(name: &'static str, package: &'static str) -> Need {
    Need {
        probe: Probe::Program(name),
        package,
    }
}

const fn file(path: &'static str, package: &'static str) -> Need {
    Need {
        probe: Probe::File(path),
        package,
    }
}

/// What building a kernel takes, apart from its source.
pub const KERNEL: &[Need] = &[
    program("make", "make"),
    program("gcc", "gcc"),
    file("/usr/include/stdio.h", "libc6-dev"),
    program("ld", "binutils"),
    program("flex", "flex"),
    program("bison", "bison"),
    program("bc", "bc"),
    program("perl", "perl"),
    // objtool reads and writes ELF files.
    file("/usr/include/libelf.h", "libelf-dev"),
    program("tar", "tar"),
    program("xz", "xz-utils"),
    // The kernel's image is compressed with it.
    program("zstd", "zstd"),
    // An ARM kernel's size is read out of its image with it.
    program("hexdump", "bsdextrautils"),
];

/// Debian's kernel source.
pub const KERNEL_SOURCE: &[Need] = &[file(
    "/usr/src/linux-source-6.12.tar.xz",
    "linux-source-6.12",
)];

/// What C code in crates (SQLite, zstd) takes, and linking at all.
pub const USERLAND: &[Need] = &[
    program("gcc", "gcc"),
    file("/usr/include/stdio.h", "libc6-dev"),
];

/// What building llama.cpp takes, beside which inference is measured.
pub const LLAMA_CPP: &[Need] = &[
    program("python3", "python3"),
    file("/usr/lib/python3/dist-packages/pip", "python3-pip"),
    program("cmake", "cmake"),
    program("ninja", "ninja-build"),
    program("g++", "g++"),
];

/// What other people's clients run in, and are installed with.
pub const CLIENTS: &[Need] = &[
    program("python3", "python3"),
    program("pip3", "python3-pip"),
    program("node", "nodejs"),
    program("npm", "npm"),
];

/// libFuzzer is C++, compiled with its crate.
pub const FUZZ: &[Need] = &[
    program("g++", "g++"),
    file("/usr/include/stdio.h", "libc6-dev"),
];

/// What data disks and their seed are made with.
pub const FILE_SYSTEM: &[Need] = &[
    program("mke2fs", "e2fsprogs"),
    program("debugfs", "e2fsprogs"),
];

/// What tests look into disks and speak to PID 1 with: other people's programs are the judges of ours.
pub const DISK_TESTS: &[Need] = &[
    program("sgdisk", "gdisk"),
    program("sfdisk", "fdisk"),
    program("mcopy", "mtools"),
    program("fsck.vfat", "dosfstools"),
    program("ssh-keygen", "openssh-client"),
    program("busctl", "systemd"),
];

/// What Buildroot wants to find, and what its release is fetched with; the rest it builds itself.
pub const BUILDROOT: &[Need] = &[
    program("make", "make"),
    program("gcc", "gcc"),
    program("g++", "g++"),
    file("/usr/include/stdio.h", "libc6-dev"),
    program("patch", "patch"),
    program("perl", "perl"),
    program("cpio", "cpio"),
    program("unzip", "unzip"),
    program("bzip2", "bzip2"),
    program("xz", "xz-utils"),
    program("rsync", "rsync"),
    // By this path, or libtool fails later in words that nobody understands.
    file("/usr/bin/file", "file"),
    program("bc", "bc"),
    program("wget", "wget"),
    program("git", "git"),
];

/// What Buildroot's checker of style takes besides.
pub const BUILDROOT_CHECK: &[Need] = &[
    file("/usr/bin/python3", "python3"),
    file(
        "/usr/lib/python3/dist-packages/magic/__init__.py",
        "python3-magic",
    ),
    file(
        "/usr/lib/python3/dist-packages/flake8/__init__.py",
        "python3-flake8",
    ),
    program("shellcheck", "shellcheck"),
];

/// The C compiler and linker for an architecture's kernel and programs.
pub fn compiler(arch: Arch) -> &'static [Need] {
    const NATIVE: &[Need] = &[program("gcc", "gcc")];
    const TO_X86_64: &[Need] = &[
        program("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
        file(
            "/usr/x86_64-linux-gnu/include/stdio.h",
            "libc6-dev-amd64-cross",
        ),
    ];
    const TO_AARCH64: &[Need] = &[
        program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        file(
            "/usr/aarch64-linux-gnu/include/stdio.h",
            "libc6-dev-arm64-cross",
        ),
    ];
    match arch {
        _ if Arch::host() == Some(arch) => NATIVE,
        Arch::X86_64 => TO_X86_64,
        Arch::Aarch64 => TO_AARCH64,
    }
}

/// What booting a guest of an architecture takes.
pub fn machine(arch: Arch) -> &'static [Need] {
    const X86_64: &[Need] = &[program("qemu-system-x86_64", "qemu-system-x86")];
    const AARCH64: &[Need] = &[program("qemu-system-aarch64", "qemu-system-arm")];
    match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
    }
}

/// The UEFI firmware that a guest's disk is started by.
pub fn uefi(arch: Arch) -> &'static [Need] {
    const X86_64: &[Need] = &[file("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf")];
    const AARCH64: &[Need] = &[file("/usr/share/AAVMF/AAVMF_CODE.fd", "qemu-efi-aarch64")];
    match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
    }
}

/// Sees to it that everything in `needs` is there; installs what is not, where that is allowed.
pub fn ensure(stages: &mut Stages, needs: &[&[Need]]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "this host lacks what Debian packages as: {names}. Install the same by this \
             system's own means and run the command again"
        );
    }
    let Some(become_root) = become_root() else {
        bail!(
            "packages are missing and there is no right to install them. Run this once:\n\n    \
             sudo apt-get update && sudo apt-get install --no-install-recommends --yes {names}\n"
        );
    };
    stages.run("host packages", |stage| {
        stage.note(format!("installing {names}"));
        install(stage, become_root, &missing)?;
        stage.summary(format!("installed {names}"));
        Ok(())
    })?;
    let still_missing = self::missing(needs);
    if !still_missing.is_empty() {
        bail!(
            "apt-get succeeded, and still missing: {}",
            still_missing.join(" ")
        );
    }
    Ok(())
}

/// Where a program is, in `$PATH` or where Debian keeps the administrator's programs.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn missing(needs: &[&[Need]]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs
        .iter()
        .flat_map(|group| group.iter())
        .filter(|need| !need.is_there())
        .map(|need| need.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

impl Need {
    fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(name) => find_program(name).is_some(),
            Probe::File(path) => Path::new(path).exists(),
        }
    }
}

/// The words in front of a command that make it root's: none for root, `sudo -n` where that
/// works without a question.
fn become_root() -> Option<&'static [&'static str]> {
    let quiet = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    let output = Command::new("id").arg("-u").output().ok()?;
    if output.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    match quiet(Command::new("sudo").args(["-n", "true"])) {
        Ok(status) if status.success() => Some(&["sudo", "-n"]),
        _ => None,
    }
}

fn install(stage: &Stage, become_root: &[&str], packages: &[&str]) -> Result<()> {
    let apt_get = |arguments: &[&str]| {
        let words = [
            become_root,
            &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"],
            arguments,
        ]
        .concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    };
    let wanted = [&["install", "--no-install-recommends", "--yes"], packages].concat();
    // The package lists of a fresh machine are empty, those of an old one point to files that
    // are gone: so a first failure is answered with an update.
    if stage.run(&mut apt_get(&["update"])).is_err() {
        stage.note("apt-get update failed; trying with the lists that are there");
    }
    stage
        .run(&mut apt_get(&wanted))
        .context("install host packages")
}
