//! A peer's root as an initramfs: the files of Debian's packages, nothing installed anywhere.
//!
//! All peers and kOS run from an initramfs, so that no disk is measured along. Debian 12 has one
//! `/usr`; its packages still name files in `/bin`, `/sbin` and `/lib`, which are links there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;

/// What nobody reads in a guest.
const LEFT_OUT: &[&str] = &[
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/locale/",
    "usr/share/info/",
    "usr/share/bash-completion/",
    "usr/share/zsh/",
    "usr/share/lintian/",
    "usr/lib/udev/hwdb.d/",
    "usr/lib/x86_64-linux-gnu/gconv/",
];
/// Directories that are links in a merged root.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];
const EMPTY: &[&str] = &[
    "proc",
    "sys",
    "dev",
    "run",
    "srv/bare/proc",
    "srv/bare/sys",
    "srv/bare/dev",
    "srv/bare/run",
    "srv/bare/tmp",
    "srv/bare/bench",
    "var/tmp",
    "var/log",
    "var/lib",
    "etc",
    "root",
    "bench",
];

/// The files below `root`, which packages were unpacked to, as they lie in a merged root.
pub fn archive(root: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    add(&mut archive, root, "")?;
    for name in MERGED {
        archive.symbolic_link(name, &format!("usr/{name}"));
    }
    for name in EMPTY {
        archive.directory(name, 0o755);
    }
    archive.directory("tmp", 0o1777);
    archive.symbolic_link("var/run", "/run");
    archive.symbolic_link("var/lock", "/run/lock");
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    Ok(archive)
}

fn add(archive: &mut Archive, root: &Path, directory: &str) -> Result<()> {
    let full = root.join(directory);
    let mut names: Vec<_> = std::fs::read_dir(&full)
        .and_then(|listing| listing.map(|entry| Ok(entry?.file_name())).collect())
        .with_context(|| format!("list {}", full.display()))?;
    names.sort();
    for name in names {
        let name = name.to_string_lossy();
        let path = match directory {
            "" => name.into_owned(),
            _ => format!("{directory}/{name}"),
        };
        let source = root.join(&path);
        let kind = std::fs::symlink_metadata(&source)?;
        let place = merged(&path);
        if LEFT_OUT
            .iter()
            .any(|left| format!("{place}/").starts_with(left))
        {
            continue;
        }
        if kind.is_dir() {
            if !MERGED.contains(&path.as_str()) {
                archive.directory(&place, kind.permissions().mode() & 0o1777);
            }
            add(archive, root, &path)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&source)?;
            archive.symbolic_link(&place, &target.to_string_lossy());
        } else if kind.is_file() {
            let bytes =
                std::fs::read(&source).with_context(|| format!("read {}", source.display()))?;
            // No setuid bit: nobody logs in.
            archive.file(&place, kind.permissions().mode() & 0o777, bytes);
        } else {
            bail!("{} is no file, directory or link", source.display());
        }
    }
    Ok(())
}

fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    match MERGED.contains(&first) {
        true => format!("usr/{path}"),
        false => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_files_lie_below_usr_and_documents_stay_out() {
        let root = tempfile::tempdir().unwrap();
        for file in ["sbin/finit", "usr/bin/chpst", "usr/share/doc/finit/README"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let archive = archive(root.path()).unwrap();
        let files: Vec<_> = archive.files().map(|(path, _)| path).collect();
        assert_eq!(files, ["usr/bin/chpst", "usr/sbin/finit"]);
        assert!(archive.contains("sbin") && archive.contains("usr/sbin"));
    }
}
