//! Buildroot's root file system as an archive: it has what our own initramfs has, and no more.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::{external, packages};
use crate::initramfs::{self, MOUNT_POINTS};
use crate::services;
use crate::workspace::Workspace;

/// The archive's head: a magic number and 13 numbers of 8 hexadecimal digits (the kernel's
/// Documentation/driver-api/early-userspace/buffer-format.rst).
const MAGIC: &[u8] = b"070701";
const HEADER_BYTES: usize = 6 + 13 * 8;
/// Fields of the head, counted after the magic number.
const FILE_BYTES: usize = 6;
const NAME_BYTES: usize = 11;
/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Fails with everything that is missing or too much in the archive.
pub fn check(workspace: &Workspace, archive: &[u8]) -> Result<()> {
    compare(&names(archive)?, &wanted(workspace)?)
}

fn compare(found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Result<()> {
    let shown = |names: Vec<&String>| {
        names
            .iter()
            .map(|name| format!("\n  /{name}"))
            .collect::<String>()
    };
    let extra: Vec<_> = found.difference(wanted).collect();
    let missing: Vec<_> = wanted.difference(found).collect();
    ensure!(
        extra.is_empty(),
        "Buildroot's root file system has what no image has:{}",
        shown(extra)
    );
    ensure!(
        missing.is_empty(),
        "Buildroot's root file system lacks:{}",
        shown(missing)
    );
    Ok(())
}

/// Every path of an initramfs, but for the data partition's seed, which is added later.
fn wanted(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let image = workspace.image();
    let mut wanted: BTreeSet<String> = MOUNT_POINTS
        .iter()
        .chain(&["tmp", "bin", "dev", "dev/console", "dev/null", "etc"])
        .chain(&["etc/kos", "etc/kos/release.toml"])
        .map(|path| (*path).to_owned())
        .collect();
    wanted.extend(packages().map(external::program));
    for kind in ["services", "seccomp"] {
        wanted.insert(format!("etc/kos/{kind}"));
        for (path, _) in services::read_texts(&image.join(kind))? {
            let name = path.rsplit('/').next().unwrap_or_default();
            wanted.insert(format!("etc/kos/{kind}/{name}"));
        }
    }
    wanted.insert("etc/kos/models".to_owned());
    for path in initramfs::built_in_models(workspace)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        wanted.insert(format!("etc/kos/models/{name}"));
    }
    let set = services::check(&[image.join("services")], &image.join("seccomp"))?;
    for service in set.iter() {
        let program = service.program.to_string_lossy();
        ensure!(
            wanted.contains(program.trim_start_matches('/')),
            "service {}: program: found {program}, which Buildroot has no package for",
            service.name
        );
    }
    Ok(wanted)
}

/// The paths in an archive, without `.` and without a leading slash.
fn names(archive: &[u8]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut offset = 0;
    loop {
        let (name, next) =
            entry(archive, offset).with_context(|| format!("at byte {offset} of the archive"))?;
        match name.as_str() {
            TRAILER => return Ok(names),
            "." => {}
            _ => {
                names.insert(name.trim_start_matches("./").to_owned());
            }
        }
        offset = next;
    }
}

/// An entry's name, and where the next one begins.
fn entry(archive: &[u8], offset: usize) -> Result<(String, usize)> {
    let part = |start: usize, bytes: usize| {
        archive
            .get(start..)
            .and_then(|rest| rest.get(..bytes))
            .context("the archive ends early")
    };
    let header = part(offset, HEADER_BYTES)?;
    if !header.starts_with(MAGIC) {
        bail!("not an archive in the format newc");
    }
    let field = |index: usize| -> Result<usize> {
        let digits = &header[MAGIC.len() + index * 8..][..8];
        let text = std::str::from_utf8(digits)?;
        Ok(usize::from_str_radix(text, 16)?)
    };
    let name_bytes = field(NAME_BYTES)?;
    let name = part(offset + HEADER_BYTES, name_bytes)?;
    let name = name.strip_suffix(b"\0").context("a name without an end")?;
    let contents = (offset + HEADER_BYTES + name_bytes).next_multiple_of(4);
    part(contents, field(FILE_BYTES)?)?;
    let next = (contents + field(FILE_BYTES)?).next_multiple_of(4);
    Ok((String::from_utf8_lossy(name).into_owned(), next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::Archive;

    fn archive(paths: &BTreeSet<String>) -> Archive {
        let mut archive = Archive::default();
        for path in paths {
            // Whether a directory or a file makes no difference here.
            archive.file(path, 0o644, vec![7; path.len()]);
        }
        archive
    }

    #[test]
    fn what_our_own_images_have_is_accepted() {
        let workspace = Workspace::find().unwrap();
        let mut paths = wanted(&workspace).unwrap();
        check(&workspace, &archive(&paths).to_bytes()).unwrap();

        paths.insert("bin/sh".to_owned());
        let error = check(&workspace, &archive(&paths).to_bytes()).unwrap_err();
        assert!(error.to_string().contains("\n  /bin/sh"), "{error}");

        paths.remove("bin/sh");
        paths.remove("init");
        let error = check(&workspace, &archive(&paths).to_bytes()).unwrap_err();
        assert!(error.to_string().ends_with("lacks:\n  /init"), "{error}");
    }

    #[test]
    fn a_broken_archive_is_refused_at_its_place() {
        let bytes = archive(&BTreeSet::from(["a".to_owned()])).to_bytes();
        for (bytes, part) in [
            (&bytes[..4], "ends early"),
            (&bytes[..HEADER_BYTES + 2], "ends early"),
            (&b"not cpio at all".repeat(20)[..], "newc"),
        ] {
            let error = format!("{:#}", names(bytes).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
