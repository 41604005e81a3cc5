//! A disk image as a file: sparse, and compressed for the way to a user.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use kos_manifest::disk::MAKE_MARKER;

use super::gpt::SECTOR;
use super::layout::{Content, Layout};
use super::{fat, guid};
use crate::stage::Stage;

/// A hole is made where this many zero bytes are: a page of every file system.
const HOLE: usize = 4096;
/// Most of an image is compressed already (kernel, initramfs): more work gains nothing.
const COMPRESSION_LEVEL: i32 = 9;
/// Read at once while compressing.
const CHUNK: usize = 1 << 20;

/// Writes a disk image. A reader sees the old file or the whole new one.
pub fn write(layout: &Layout, path: &Path) -> Result<()> {
    replace(path, |file| write_to(layout, file)).with_context(|| format!("make {}", path.display()))
}

/// Compresses a disk image, zeros and all; equal images give equal bytes.
pub fn compress(image: &Path, target: &Path, stage: &Stage) -> Result<()> {
    let mut input = File::open(image).with_context(|| format!("open {}", image.display()))?;
    let bytes = input.metadata()?.len();
    replace(target, |output| {
        let mut encoder = zstd::Encoder::new(BufWriter::new(output), COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        // The size in the frame lets flash say in advance whether a disk is large enough.
        encoder.set_pledged_src_size(Some(bytes))?;
        let mut chunk = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let count = input.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            encoder.write_all(&chunk[..count])?;
            done += count as u64;
            stage.note(format!(
                "compressing {}: {} of {} MiB",
                image.file_name().unwrap_or_default().display(),
                done >> 20,
                bytes >> 20
            ));
        }
        encoder.finish()?.flush()?;
        Ok(())
    })
    .with_context(|| format!("compress {}", target.display()))
}

fn write_to(layout: &Layout, file: &File) -> Result<()> {
    let disk_sectors = layout.disk_sectors();
    let table = layout.table();
    file.set_len(disk_sectors * SECTOR)?;
    let (primary, backup) = table.to_bytes(disk_sectors)?;
    file.write_all_at(&primary, 0)?;
    file.write_all_at(&backup, disk_sectors * SECTOR - backup.len() as u64)?;
    for raw in layout.raw()? {
        write_sparse(file, &raw.bytes, raw.sector * SECTOR)?;
    }
    for (partition, entry) in layout.partitions().iter().zip(&table.partitions) {
        let start = entry.first * SECTOR;
        match &partition.content {
            Content::DataMarker => file.write_all_at(&MAKE_MARKER, start)?,
            Content::Fat { label, files } => {
                let identity = guid::derived(&["volume", &entry.guid.to_string()])
                    .as_fields()
                    .0;
                let volume = fat::image(partition.bytes, label, identity, files)?;
                write_sparse(file, &volume, start)?;
            }
        }
    }
    Ok(())
}

/// Writes what is not zero; the file is all zero where it has not been written.
fn write_sparse(file: &File, bytes: &[u8], start: u64) -> std::io::Result<()> {
    for (index, chunk) in bytes.chunks(HOLE).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            file.write_all_at(chunk, start + (index * HOLE) as u64)?;
        }
    }
    Ok(())
}

fn replace(path: &Path, fill: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let new = tempfile::Builder::new()
        .prefix(".kos-image-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory.unwrap_or(Path::new(".")))?;
    fill(new.as_file())?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Disk;
    use crate::disk::fatfile;
    use crate::disk::gpt::Table;
    use crate::disk::layout::Raw;
    use crate::hostpackages::find_program;
    use crate::stage::Stages;
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    fn file(path: &str, text: &str) -> (String, Vec<u8>) {
        (path.to_owned(), text.as_bytes().to_vec())
    }

    fn disk(first_mib: u64) -> Disk {
        Disk {
            first_partition: first_mib << 20,
            boot_partition: 128 << 20,
            slot_partitions: Some(96 << 20),
        }
    }

    fn layouts() -> Vec<Layout> {
        let identity = guid::derived(&["disk", "test"]);
        let raw = |name: &str, sector, bytes| Raw {
            name: name.to_owned(),
            sector,
            bytes: vec![0xaa; bytes],
        };
        vec![
            Layout::uefi(
                identity,
                &disk(1),
                vec![file("loader/loader.conf", "timeout 0\n")],
            ),
            Layout::raspberry_pi(
                identity,
                &disk(1),
                vec![file("autoboot.txt", "[all]\nboot_partition=2\n")],
                vec![file("cmdline.txt", "quiet")],
            )
            .unwrap(),
            Layout::u_boot(
                identity,
                &disk(16),
                vec![file("extlinux/extlinux.conf", "LABEL kos")],
                vec![
                    raw("idbloader.img", 64, 100_000),
                    raw("u-boot.itb", 16384, 1_000_000),
                ],
            ),
        ]
    }

    fn output(program: &str, arguments: &[&str], path: &Path) -> String {
        let output = Command::new(find_program(program).unwrap())
            .args(arguments)
            .arg(path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn other_tools_read_the_same_partitions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        for layout in layouts() {
            write(&layout, &path).unwrap();
            let metadata = path.metadata().unwrap();
            assert_eq!(metadata.len(), layout.disk_sectors() * SECTOR);
            assert!(metadata.blocks() * 512 < 10 << 20, "the file has holes");

            let report = output("sgdisk", &["-v"], &path);
            assert!(report.contains("No problems found"), "{report}");
            let json = output("sfdisk", &["--json"], &path);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let found = &json["partitiontable"];
            let table = layout.table();
            let upper = |guid: uuid::Uuid| guid.to_string().to_uppercase();
            assert_eq!(found["id"], upper(table.disk_guid));
            let partitions = found["partitions"].as_array().unwrap();
            assert_eq!(partitions.len(), table.partitions.len());
            let image = std::fs::read(&path).unwrap();
            for ((found, entry), partition) in partitions
                .iter()
                .zip(&table.partitions)
                .zip(layout.partitions())
            {
                assert_eq!(found["name"], *entry.name);
                assert_eq!(found["start"], entry.first);
                assert_eq!(found["size"], entry.sectors);
                assert_eq!(found["type"], upper(entry.type_guid));
                assert_eq!(found["uuid"], upper(entry.guid));
                assert_eq!(entry.first % 2048, 0);
                let start = (entry.first * SECTOR) as usize;
                match &partition.content {
                    Content::DataMarker => {
                        assert_eq!(&image[start..start + 16], b"kos-data: make\n\0");
                        let rest = &image[start + 16..start + partition.bytes as usize];
                        assert!(rest.iter().all(|byte| *byte == 0));
                    }
                    Content::Fat { files, .. } => {
                        let end = start + partition.bytes as usize;
                        let volume = directory.path().join("volume");
                        std::fs::write(&volume, &image[start..end]).unwrap();
                        output("fsck.vfat", &["-n"], &volume);
                        let mut volume = std::io::Cursor::new(image[start..end].to_vec());
                        for (path, bytes) in files {
                            let read = fatfile::read(&mut volume, path).unwrap();
                            assert_eq!(read.as_ref(), Some(bytes));
                        }
                    }
                }
            }
            for raw in layout.raw().unwrap() {
                let start = (raw.sector * SECTOR) as usize;
                assert!(image[start..start + raw.bytes.len()] == raw.bytes);
            }
            assert_eq!(Table::from_bytes(&image).unwrap(), table);
        }
    }

    #[test]
    fn equal_layouts_are_equal_files_compressed_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut stages = Stages::new(directory.path().to_path_buf());
        let files: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let image = directory.path().join(format!("{name}.img"));
                let compressed = directory.path().join(format!("{name}.img.zst"));
                write(&layouts()[1], &image).unwrap();
                stages
                    .run("compress", |stage| compress(&image, &compressed, stage))
                    .unwrap();
                (
                    std::fs::read(image).unwrap(),
                    std::fs::read(compressed).unwrap(),
                )
            })
            .collect();
        assert!(files[0] == files[1]);
        assert!(zstd::decode_all(&files[0].1[..]).unwrap() == files[0].0);
    }

    #[test]
    fn raw_pieces_must_not_overlap_what_is_there() {
        let identity = guid::derived(&["disk"]);
        for (sectors, bytes, allowed) in [
            ([64, 16384], 512, true),
            ([33, 16384], 512, false),
            ([64, 65], 1024, false),
            ([64, 32767], 513, false),
        ] {
            let raw = sectors.map(|sector| Raw {
                name: "u-boot".to_owned(),
                sector,
                bytes: vec![1; bytes],
            });
            let layout = Layout::u_boot(identity, &disk(16), Vec::new(), raw.into());
            assert_eq!(layout.raw().is_ok(), allowed, "{sectors:?} {bytes}");
        }
    }
}
