//! The image that is flashed: unpacked, made the box's own, and given its settings.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kos_manifest::disk::DATA_PARTITION_NAME;

use super::settings::Settings;
use crate::disk::gpt::{PRIMARY_SECTORS, SECTOR, Table};
use crate::disk::layout::BOOT;
use crate::disk::window::Window;
use crate::disk::{fatfile, guid};
use crate::stage::Stage;

/// Texts of a boot loader that tell the kernel which disk is its own.
const ARGUMENT_FILES: [&str; 2] = ["cmdline.txt", "extlinux/extlinux.conf"];
/// The kernel argument in them, followed by the disk's GUID.
const DISK_ARGUMENT: &str = "kos.disk=";
/// Unpacked at once.
const CHUNK: usize = 1 << 20;
/// Where a frame of zstd says how many bytes it holds: its header's longest form.
const FRAME_HEADER: u64 = 18;

/// An image, unpacked to a file without a name.
pub struct Source {
    file: File,
    bytes: u64,
    table: Table,
}

impl Source {
    /// How large the image is when it is unpacked.
    pub fn size_of(path: &Path) -> Result<u64> {
        let file =
            File::open(path).with_context(|| format!("open the image {}", path.display()))?;
        if !is_compressed(path) {
            return Ok(file.metadata()?.len());
        }
        let mut head = Vec::new();
        file.take(FRAME_HEADER).read_to_end(&mut head)?;
        zstd::zstd_safe::get_frame_content_size(&head)
            .ok()
            .flatten()
            .with_context(|| {
                format!(
                    "{}: it does not say how large it is; images of cargo xtask image do",
                    path.display()
                )
            })
    }

    /// Unpacks an image and checks that it is one of kOS.
    pub fn unpack(path: &Path, stage: &Stage) -> Result<Source> {
        let about = || format!("unpack {}", path.display());
        let input = File::open(path).with_context(about)?;
        let mut input: Box<dyn Read> = match is_compressed(path) {
            true => Box::new(zstd::Decoder::new(input).with_context(about)?),
            false => Box::new(input),
        };
        let file = tempfile::tempfile().context("make a temporary file")?;
        let mut bytes = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = fill(&mut input, &mut chunk).with_context(about)?;
            if chunk[..count].iter().any(|byte| *byte != 0) {
                file.write_all_at(&chunk[..count], bytes)?;
            }
            bytes += count as u64;
            stage.note(format!("unpacking: {} MiB", bytes >> 20));
            if count < CHUNK {
                break;
            }
        }
        file.set_len(bytes)?;
        Source::of(file).with_context(|| format!("{}: it is no image of kOS", path.display()))
    }

    fn of(file: File) -> Result<Source> {
        let bytes = file.metadata()?.len();
        let mut primary = Vec::new();
        Window::new(&file, 0, PRIMARY_SECTORS * SECTOR).read_to_end(&mut primary)?;
        let table = Table::from_bytes(&primary)?;
        let names: Vec<_> = table.partitions.iter().map(|part| &*part.name).collect();
        ensure!(
            names.first() == Some(&BOOT) && names.last() == Some(&DATA_PARTITION_NAME),
            "found the partitions {}, allowed: {BOOT} first and {DATA_PARTITION_NAME} last",
            names.join(", ")
        );
        Ok(Source { file, bytes, table })
    }

    /// Gives disk and partitions fresh GUIDs, tells the boot loader's texts, and adds the
    /// settings: two boxes of one image are two disks.
    pub fn personalise(&mut self, settings: &Settings) -> Result<()> {
        self.table.disk_guid = guid::random();
        for partition in &mut self.table.partitions {
            partition.guid = guid::random();
        }
        let disk = self.table.disk_guid.to_string();
        for partition in &self.table.partitions {
            if partition.type_guid != guid::EFI_SYSTEM {
                continue;
            }
            let mut volume = Window::new(
                &self.file,
                partition.first * SECTOR,
                partition.sectors * SECTOR,
            );
            let about = || format!("change partition {}", partition.name);
            for name in ARGUMENT_FILES {
                let Some(text) = fatfile::read(&mut volume, name).with_context(about)? else {
                    continue;
                };
                let text = String::from_utf8(text)
                    .with_context(|| format!("{name} on partition {}", partition.name))?;
                let renamed = rename(&text, &disk);
                fatfile::write(&mut volume, name, renamed.as_bytes()).with_context(about)?;
            }
            if partition.name == BOOT {
                for (name, bytes) in &settings.files {
                    fatfile::write(&mut volume, name, bytes).with_context(about)?;
                }
            }
        }
        Ok(())
    }

    /// The unpacked image. Its partition table is that of the image; [`Source::table`] is the
    /// disk's.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The partition table that the disk gets.
    pub fn table(&self) -> &Table {
        &self.table
    }
}

/// Replaces the disk's GUID in kernel arguments.
fn rename(text: &str, disk: &str) -> String {
    let mut renamed = String::new();
    for (index, part) in text.split(DISK_ARGUMENT).enumerate() {
        if index == 0 {
            renamed.push_str(part);
            continue;
        }
        let rest =
            part.trim_start_matches(|letter: char| letter.is_ascii_hexdigit() || letter == '-');
        renamed.push_str(DISK_ARGUMENT);
        renamed.push_str(disk);
        renamed.push_str(rest);
    }
    renamed
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// Reads until the chunk is full or the input ends.
fn fill(input: &mut impl Read, chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut rest = &mut chunk[..];
    let whole = rest.len();
    let copied = std::io::copy(&mut input.take(whole as u64), &mut rest)?;
    rest.flush()?;
    Ok(copied as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_renamed_and_nothing_else() {
        let text = "quiet kos.disk=11111111-2222-3333-4444-555555555555 panic=10\n\
                    append kos.disk=ABCDEF";
        assert_eq!(
            rename(text, "new"),
            "quiet kos.disk=new panic=10\nappend kos.disk=new"
        );
        assert_eq!(rename("console=tty0", "new"), "console=tty0");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"dear reader", 0).unwrap();
        assert!(Source::of(file).is_err());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kos-x.img.zst");
        let mut stream = zstd::Encoder::new(Vec::new(), 1).unwrap();
        stream.write_all(b"text").unwrap();
        stream.flush().unwrap();
        std::fs::write(&path, stream.finish().unwrap()).unwrap();
        let error = Source::size_of(&path).unwrap_err().to_string();
        assert!(error.contains("does not say how large it is"), "{error}");
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(Source::size_of(&path).is_err());
    }
}
