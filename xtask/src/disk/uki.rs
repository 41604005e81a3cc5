//! A unified kernel image: systemd's EFI stub with kernel, initramfs and arguments as sections.
//!
//! The stub finds its sections by name in memory, where the firmware loaded them, so all that is
//! done here is to add section headers, and their data at the file's end. Other formats of the
//! stub's file, 32-bit ones and signed ones, are refused: a signature would no longer hold.
//! (Format: Microsoft's "PE Format"; sections: systemd-stub(7).)

use anyhow::{Context, Result, bail, ensure};

/// The least that both architectures' pages have. Debian's x86-64 stub asks for 512 bytes only,
/// but a section on pages of its own can be protected by a firmware that does so.
const PAGE: u32 = 4096;
const SECTION_HEADER_BYTES: usize = 40;
/// Initialised data, readable (IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ).
const READABLE_DATA: u32 = 0x4000_0040;
/// PE32+, the 64-bit format.
const MAGIC_64: u16 = 0x20b;
/// Padding by AArch64's assembler, which Debian's stub for it has behind its headers: "nop".
const NOP: [u8; 4] = 0xd503_201f_u32.to_le_bytes();
/// The data directory that points to a signature.
const SECURITY_DIRECTORY: usize = 4;

/// Offsets in the file header, from "PE".
const MACHINE: usize = 4;
const SECTION_COUNT: usize = 6;
const SYMBOL_TABLE: usize = 12;
const SYMBOL_COUNT: usize = 16;
const OPTIONAL_HEADER_BYTES: usize = 20;
const OPTIONAL_HEADER: usize = 24;
/// Offsets in the optional header.
const INITIALIZED_DATA_BYTES: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const IMAGE_BYTES: usize = 56;
const HEADERS_BYTES: usize = 60;
const CHECKSUM: usize = 64;
const DIRECTORY_COUNT: usize = 108;
const DIRECTORIES: usize = 112;
/// Offsets in a section header.
const VIRTUAL_BYTES: usize = 8;
const VIRTUAL_ADDRESS: usize = 12;
const RAW_BYTES: usize = 16;
const RAW_OFFSET: usize = 20;
const CHARACTERISTICS: usize = 36;

/// What is added to the stub.
#[derive(Debug, Clone, Copy)]
pub struct UkiSections<'a> {
    /// As in os-release(5): the boot menu's name and version.
    pub os_release: &'a str,
    /// The kernel's arguments.
    pub cmdline: &'a str,
    /// The kernel's release.
    pub uname: &'a str,
    /// A kernel that is an EFI program itself.
    pub kernel: &'a [u8],
    /// The initramfs, archives that follow one another included.
    pub initrd: &'a [u8],
    /// A device tree, where the firmware gives none.
    pub dtb: Option<&'a [u8]>,
}

/// Adds the sections to systemd's stub.
pub fn build(stub: &[u8], sections: UkiSections) -> Result<Vec<u8>> {
    let mut image = Image::parse(stub).context("read the EFI stub")?;
    let kernel_machine = machine(sections.kernel).context("read the kernel as an EFI program")?;
    let stub_machine = machine(stub)?;
    ensure!(
        kernel_machine == stub_machine,
        "the kernel is for PE machine {kernel_machine:#06x}, the EFI stub for {stub_machine:#06x}"
    );
    image.add(".osrel", sections.os_release.as_bytes())?;
    image.add(".cmdline", sections.cmdline.as_bytes())?;
    image.add(".uname", sections.uname.as_bytes())?;
    if let Some(dtb) = sections.dtb {
        image.add(".dtb", dtb)?;
    }
    image.add(".initrd", sections.initrd)?;
    // Last: systemd's own tools put it there, because a kernel unpacks itself behind its end.
    image.add(".linux", sections.kernel)?;
    Ok(image.bytes)
}

/// A PE file that sections are added to.
struct Image {
    bytes: Vec<u8>,
    /// Where "PE" is.
    header: usize,
    /// Where the optional header is.
    optional: usize,
    /// Where the section headers are.
    table: usize,
    section_alignment: u32,
    file_alignment: u32,
}

impl Image {
    fn parse(file: &[u8]) -> Result<Image> {
        let header = header(file)?;
        let optional = header + OPTIONAL_HEADER;
        let magic = get_u16(file, optional)?;
        ensure!(
            magic == MAGIC_64,
            "optional header's magic: found {magic:#x}, allowed: {MAGIC_64:#x} (64-bit)"
        );
        let image = Image {
            table: optional + usize::from(get_u16(file, header + OPTIONAL_HEADER_BYTES)?),
            section_alignment: get_u32(file, optional + SECTION_ALIGNMENT)?,
            file_alignment: get_u32(file, optional + FILE_ALIGNMENT)?,
            bytes: file.to_vec(),
            header,
            optional,
        };
        for alignment in [image.section_alignment, image.file_alignment] {
            ensure!(
                alignment.is_power_of_two(),
                "alignment: found {alignment}, allowed: a power of two"
            );
        }
        image.unsigned_and_without_symbols()
    }

    /// What follows the last section is symbols, which nothing reads, or a signature.
    fn unsigned_and_without_symbols(mut self) -> Result<Image> {
        let directories = get_u32(&self.bytes, self.optional + DIRECTORY_COUNT)? as usize;
        let security = self.optional + DIRECTORIES + 8 * SECURITY_DIRECTORY;
        ensure!(
            directories <= SECURITY_DIRECTORY || get_u32(&self.bytes, security + 4)? == 0,
            "the file is signed, and adding a section would break the signature"
        );
        let mut end = get_u32(&self.bytes, self.optional + HEADERS_BYTES)?;
        for index in 0..self.section_count()? {
            let section = self.table + index * SECTION_HEADER_BYTES;
            ensure!(
                self.bytes.get(section) != Some(&b'/'),
                "section {index}: its name is in the symbol table, which kOS drops"
            );
            let offset = get_u32(&self.bytes, section + RAW_OFFSET)?;
            end = end.max(offset + get_u32(&self.bytes, section + RAW_BYTES)?);
        }
        ensure!(
            end as usize <= self.bytes.len(),
            "the file ends before its last section does"
        );
        self.bytes.truncate(end as usize);
        put_u32(&mut self.bytes, self.header + SYMBOL_TABLE, 0);
        put_u32(&mut self.bytes, self.header + SYMBOL_COUNT, 0);
        // Only drivers and signed boot loaders need it, and zero says that there is none.
        put_u32(&mut self.bytes, self.optional + CHECKSUM, 0);
        Ok(self)
    }

    fn section_count(&self) -> Result<usize> {
        get_u16(&self.bytes, self.header + SECTION_COUNT).map(usize::from)
    }

    fn add(&mut self, name: &str, data: &[u8]) -> Result<()> {
        ensure!(!data.is_empty(), "section {name}: it is empty");
        let count = self.section_count()?;
        let section = self.table + count * SECTION_HEADER_BYTES;
        let headers_end = get_u32(&self.bytes, self.optional + HEADERS_BYTES)? as usize;
        let unused = |room: &[u8]| {
            room.chunks(NOP.len())
                .all(|word| word == NOP || word.iter().all(|byte| *byte == 0))
        };
        let room = self.bytes.get(section..section + SECTION_HEADER_BYTES);
        ensure!(
            section + SECTION_HEADER_BYTES <= headers_end && room.is_some_and(unused),
            "section {name}: the stub's headers have no room for section {}",
            count + 1
        );
        let mut address = 0;
        for index in 0..count {
            let other = self.table + index * SECTION_HEADER_BYTES;
            let start = get_u32(&self.bytes, other + VIRTUAL_ADDRESS)?;
            address = address.max(start + get_u32(&self.bytes, other + VIRTUAL_BYTES)?);
        }
        let address = align(address, self.section_alignment.max(PAGE), name)?;
        let offset = align(u32::try_from(self.bytes.len())?, self.file_alignment, name)?;
        let bytes = u32::try_from(data.len())?;
        let raw_bytes = align(bytes, self.file_alignment, name)?;
        let image_bytes = address
            .checked_add(bytes)
            .with_context(|| format!("section {name}: the image would exceed 4 GiB"))?;
        let image_bytes = align(image_bytes, self.section_alignment, name)?;

        self.bytes.resize(offset as usize, 0);
        self.bytes.extend_from_slice(data);
        self.bytes.resize((offset + raw_bytes) as usize, 0);
        self.bytes[section..section + SECTION_HEADER_BYTES].fill(0);
        self.bytes[section..section + name.len()].copy_from_slice(name.as_bytes());
        put_u32(&mut self.bytes, section + VIRTUAL_BYTES, bytes);
        put_u32(&mut self.bytes, section + VIRTUAL_ADDRESS, address);
        put_u32(&mut self.bytes, section + RAW_BYTES, raw_bytes);
        put_u32(&mut self.bytes, section + RAW_OFFSET, offset);
        put_u32(&mut self.bytes, section + CHARACTERISTICS, READABLE_DATA);
        let count = u16::try_from(count + 1)?.to_le_bytes();
        self.bytes[self.header + SECTION_COUNT..][..2].copy_from_slice(&count);
        let data_bytes = get_u32(&self.bytes, self.optional + INITIALIZED_DATA_BYTES)?;
        put_u32(
            &mut self.bytes,
            self.optional + INITIALIZED_DATA_BYTES,
            data_bytes.saturating_add(raw_bytes),
        );
        put_u32(&mut self.bytes, self.optional + IMAGE_BYTES, image_bytes);
        Ok(())
    }
}

/// The machine type of a PE file.
fn machine(file: &[u8]) -> Result<u16> {
    get_u16(file, header(file)? + MACHINE)
}

fn header(file: &[u8]) -> Result<usize> {
    /// Where a DOS program, as which every PE file begins, says where "PE" is.
    const POINTER: usize = 0x3c;
    if !file.starts_with(b"MZ") {
        bail!(
            "it begins with {:02x?}, allowed: MZ",
            &file[..file.len().min(2)]
        );
    }
    let header = get_u32(file, POINTER)? as usize;
    ensure!(
        file.get(header..header.saturating_add(4)) == Some(b"PE\0\0"),
        "it has no PE header"
    );
    Ok(header)
}

fn align(value: u32, alignment: u32, name: &str) -> Result<u32> {
    value
        .checked_next_multiple_of(alignment)
        .with_context(|| format!("section {name}: the image would exceed 4 GiB"))
}

fn get_u16(bytes: &[u8], offset: usize) -> Result<u16> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*field.context("the header ends early")?))
}

fn get_u32(bytes: &[u8], offset: usize) -> Result<u32> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*field.context("the header ends early")?))
}

/// Only at offsets that have been read before.
fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const X86_64: u16 = 0x8664;
    const AARCH64: u16 = 0xaa64;
    const FIXTURE_HEADER: usize = 0x80;
    const FIXTURE_HEADERS_BYTES: u32 = 0x400;

    /// The smallest file that a firmware would load: one section, and room for `room` more.
    fn program(machine: u16, room: usize) -> Vec<u8> {
        let mut bytes = vec![0; FIXTURE_HEADERS_BYTES as usize];
        bytes[..2].copy_from_slice(b"MZ");
        put_u32(&mut bytes, 0x3c, FIXTURE_HEADER as u32);
        let header = FIXTURE_HEADER;
        bytes[header..header + 4].copy_from_slice(b"PE\0\0");
        bytes[header + MACHINE..][..2].copy_from_slice(&machine.to_le_bytes());
        bytes[header + SECTION_COUNT] = 1;
        let optional = header + OPTIONAL_HEADER;
        let table = FIXTURE_HEADERS_BYTES as usize - (1 + room) * SECTION_HEADER_BYTES;
        let optional_bytes = u16::try_from(table - optional).unwrap();
        bytes[header + OPTIONAL_HEADER_BYTES..][..2].copy_from_slice(&optional_bytes.to_le_bytes());
        bytes[optional..optional + 2].copy_from_slice(&MAGIC_64.to_le_bytes());
        put_u32(&mut bytes, optional + SECTION_ALIGNMENT, 0x200);
        put_u32(&mut bytes, optional + FILE_ALIGNMENT, 0x200);
        put_u32(&mut bytes, optional + HEADERS_BYTES, FIXTURE_HEADERS_BYTES);
        put_u32(&mut bytes, optional + CHECKSUM, 0x1234);
        put_u32(&mut bytes, optional + DIRECTORY_COUNT, 16);
        bytes[table..table + 5].copy_from_slice(b".text");
        put_u32(&mut bytes, table + VIRTUAL_BYTES, 0x10);
        put_u32(&mut bytes, table + VIRTUAL_ADDRESS, 0x1000);
        put_u32(&mut bytes, table + RAW_BYTES, 0x200);
        put_u32(&mut bytes, table + RAW_OFFSET, FIXTURE_HEADERS_BYTES);
        bytes.resize(bytes.len() + 0x200, 0xcc);
        bytes
    }

    fn sections(kernel: &[u8]) -> UkiSections<'_> {
        UkiSections {
            os_release: "ID=kos\n",
            cmdline: "console=ttyS0",
            uname: "6.12",
            kernel,
            initrd: b"070701",
            dtb: None,
        }
    }

    fn refusal(stub: &[u8], kernel: &[u8]) -> String {
        format!("{:#}", build(stub, sections(kernel)).unwrap_err())
    }

    #[test]
    fn sections_are_where_the_headers_say_and_symbols_are_gone() {
        let kernel = program(AARCH64, 0);
        let mut stub = program(AARCH64, 5);
        // Two of the headers' places are padded as Debian's stub is.
        let room = FIXTURE_HEADERS_BYTES as usize - 5 * SECTION_HEADER_BYTES;
        for word in stub[room..room + 2 * SECTION_HEADER_BYTES].chunks_exact_mut(4) {
            word.copy_from_slice(&NOP);
        }
        stub.extend_from_slice(b"symbols");
        let built = build(&stub, sections(&kernel)).unwrap();
        let image = Image::parse(&built).unwrap();
        let field = |index: usize, offset: usize| {
            get_u32(&built, image.table + index * SECTION_HEADER_BYTES + offset).unwrap() as usize
        };
        assert_eq!(image.section_count().unwrap(), 6);
        let mut free_from = (0x1010, 0x600);
        for (index, (name, data)) in [
            (".osrel", "ID=kos\n".as_bytes()),
            (".cmdline", b"console=ttyS0"),
            (".uname", b"6.12"),
            (".initrd", b"070701"),
            (".linux", &kernel),
        ]
        .into_iter()
        .enumerate()
        {
            let index = index + 1;
            let start = image.table + index * SECTION_HEADER_BYTES;
            assert_eq!(&built[start..start + name.len()], name.as_bytes());
            assert_eq!(field(index, VIRTUAL_BYTES), data.len());
            let no_relocations = &built[start + 24..start + CHARACTERISTICS];
            assert!(no_relocations.iter().all(|byte| *byte == 0));
            let (address, offset) = (field(index, VIRTUAL_ADDRESS), field(index, RAW_OFFSET));
            assert_eq!(address % PAGE as usize, 0);
            assert!(address >= free_from.0 && offset >= free_from.1);
            assert_eq!(&built[offset..offset + data.len()], data);
            free_from = (
                address + data.len(),
                offset + data.len().next_multiple_of(0x200),
            );
        }
        assert_eq!(built.len(), free_from.1);
        let image_bytes = get_u32(&built, image.optional + IMAGE_BYTES).unwrap() as usize;
        assert_eq!(image_bytes, free_from.0.next_multiple_of(0x200));
        assert_eq!(get_u32(&built, image.optional + CHECKSUM).unwrap(), 0);
    }

    #[test]
    fn what_would_not_boot_is_refused() {
        let kernel = program(X86_64, 0);
        let stub = program(X86_64, 5);
        assert!(build(&stub, sections(&kernel)).is_ok());
        let text = refusal(&program(X86_64, 4), &kernel);
        assert!(
            text.contains(".linux") && text.contains("no room"),
            "{text}"
        );
        let text = refusal(&stub, &program(AARCH64, 0));
        assert!(text.contains("0xaa64, the EFI stub for 0x8664"), "{text}");
        let text = refusal(&stub, b"\x1f\x8bgzip");
        assert!(
            text.contains("read the kernel") && text.contains("[1f, 8b]"),
            "{text}"
        );
        let mut full = stub.clone();
        full[FIXTURE_HEADERS_BYTES as usize - 1] = 1;
        assert!(refusal(&full, &kernel).contains("no room for section 6"));
        assert!(refusal(&stub[..0x500], &kernel).contains("ends before"));
        let optional = FIXTURE_HEADER + OPTIONAL_HEADER;
        let mut signed = stub.clone();
        put_u32(
            &mut signed,
            optional + DIRECTORIES + 8 * SECURITY_DIRECTORY + 4,
            8,
        );
        assert!(refusal(&signed, &kernel).contains("signed"));
        let mut old = stub.clone();
        old[optional] = 0x0b;
        old[optional + 1] = 0x01;
        assert!(refusal(&old, &kernel).contains("found 0x10b"));
        let mut unaligned = stub;
        put_u32(&mut unaligned, optional + FILE_ALIGNMENT, 0);
        assert!(refusal(&unaligned, &kernel).contains("allowed: a power of two"));
        let empty = UkiSections {
            initrd: b"",
            ..sections(&kernel)
        };
        let error = build(&program(X86_64, 5), empty).unwrap_err().to_string();
        assert!(error.contains(".initrd: it is empty"), "{error}");
    }

    #[test]
    fn objdump_finds_the_sections_in_systemds_stub() {
        let path = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
        let (Ok(stub), Some(objdump)) = (
            std::fs::read(path),
            crate::hostpackages::find_program("objdump"),
        ) else {
            eprintln!("skipped: needs {path} (systemd-boot-efi) and objdump (binutils)");
            return;
        };
        let kernel = program(X86_64, 0);
        let dtb = UkiSections {
            dtb: Some(b"\xd0\x0d\xfe\xed"),
            ..sections(&kernel)
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kos.efi");
        std::fs::write(&file, build(&stub, dtb).unwrap()).unwrap();
        let output = Command::new(objdump).arg("-h").arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|name| {
                [".osrel", ".cmdline", ".uname", ".dtb", ".initrd", ".linux"].contains(name)
            })
            .collect();
        assert_eq!(
            found,
            [".osrel", ".cmdline", ".uname", ".dtb", ".initrd", ".linux"]
        );
    }
}
