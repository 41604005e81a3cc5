//! What is in an image, for machines to read: a CycloneDX 1.5 bill of materials.
//!
//! Every file with its hash, every crate that a program was linked of, the kernel, the C library
//! that static programs carry, and the firmware's packages; each with version and licence. It has
//! no date, and its serial number derives from the contents: equal images have equal bills.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::board::Board;
use crate::cpio::Archive;
use crate::digest::Digest;
use crate::disk::guid;
use crate::firmware::FirmwareFiles;
use crate::kernel::Kernel;
use crate::userland;
use crate::workspace::Workspace;

/// Our own crates have no other: both of the workspace's licences.
const OWN_LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// Describes a board's image: the file's text.
pub fn describe(
    workspace: &Workspace,
    board: &Board,
    kernel: &Kernel,
    archive: &Archive,
    firmware: &[FirmwareFiles],
) -> Result<String> {
    let mut bill = Bill::default();
    bill.add_kernel(kernel)?;
    bill.add_files(archive);
    bill.add_crates(workspace, board.arch, archive)?;
    bill.add_libraries(board.arch);
    for files in firmware {
        bill.add_firmware(files);
    }
    let mut properties = vec![("kos:board", board.name.clone())];
    properties.push(("kos:architecture", board.arch.name().to_owned()));
    if let Some(commit) = workspace.commit() {
        properties.push(("kos:commit", commit));
    }
    bill.to_json(&board.name, &workspace.version(), &properties)
}

/// A bill in the making: its components by reference, so that their order is not ours.
#[derive(Default)]
struct Bill {
    components: BTreeMap<String, Component>,
    /// What a component is made of, as references.
    depends: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Value>,
}

impl Component {
    fn new(kind: &'static str, reference: String, name: &str) -> Component {
        Component {
            kind,
            reference,
            name: name.to_owned(),
            version: None,
            hashes: Vec::new(),
            licenses: Vec::new(),
            purl: None,
            components: Vec::new(),
            properties: Vec::new(),
        }
    }

    fn version(mut self, version: &str) -> Component {
        self.version = Some(version.to_owned());
        self
    }

    fn sha256(mut self, hexadecimal: &str) -> Component {
        self.hashes = vec![json!({ "alg": "SHA-256", "content": hexadecimal })];
        self
    }

    fn licence(mut self, expression: &str) -> Component {
        // The slash is crates.io's old "or".
        let expression = expression.replace('/', " OR ").replace("  ", " ");
        self.licenses = vec![json!({ "expression": expression })];
        self
    }

    /// A package URL: `pkg:KIND/NAME@VERSION`.
    fn purl(mut self, kind: &str, name: &str, version: &str, qualifiers: &str) -> Component {
        let encoded = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'.' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
                    _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                    _ => format!("%{byte:02X}"),
                })
                .collect()
        };
        let (name, version) = (encoded(name), encoded(version));
        self.purl = Some(format!("pkg:{kind}/{name}@{version}{qualifiers}"));
        self
    }

    fn property(mut self, name: &str, value: &str) -> Component {
        self.properties
            .push(json!({ "name": name, "value": value }));
        self
    }
}

impl Bill {
    fn add(&mut self, component: Component) {
        self.components
            .insert(component.reference.clone(), component);
    }

    fn add_kernel(&mut self, kernel: &Kernel) -> Result<()> {
        let release = &kernel.record.release;
        self.add(
            Component::new("operating-system", format!("kernel@{release}"), "linux")
                .version(release)
                .licence("GPL-2.0-only WITH Linux-syscall-note")
                .sha256(&Digest::of_file(&kernel.image)?)
                .property("kos:source", &kernel.record.source)
                .property("kos:compiler", &kernel.record.compiler),
        );
        Ok(())
    }

    fn add_files(&mut self, archive: &Archive) {
        for (path, bytes) in archive.files() {
            self.add(
                Component::new("file", file_reference(path), &format!("/{path}"))
                    .sha256(&Digest::of_bytes(bytes)),
            );
        }
    }

    fn add_crates(&mut self, workspace: &Workspace, arch: Arch, archive: &Archive) -> Result<()> {
        let lock = std::fs::read_to_string(workspace.root().join("Cargo.lock"))
            .context("read Cargo.lock")?;
        let checksums = checksums(&lock)?;
        for program in userland::PACKAGES {
            let path = match *program {
                "kos-init" => "init".to_owned(),
                other => format!("bin/{other}"),
            };
            ensure!(archive.contains(&path), "/{path} is not in the image");
            for linked in linked_crates(workspace, arch, program)? {
                let reference = format!("crate:{}@{}", linked.name, linked.version);
                let mut component = Component::new("library", reference.clone(), &linked.name)
                    .version(&linked.version)
                    .licence(&linked.licence);
                let key = (linked.name.clone(), linked.version.clone());
                if let Some(checksum) = checksums.get(&key) {
                    component =
                        component
                            .sha256(checksum)
                            .purl("cargo", &linked.name, &linked.version, "");
                }
                self.add(component);
                self.depends
                    .entry(file_reference(&path))
                    .or_default()
                    .insert(reference);
            }
        }
        Ok(())
    }

    /// What the programs are linked with besides crates: they are static.
    fn add_libraries(&mut self, arch: Arch) {
        let cross = Arch::host() != Some(arch);
        let libc = match cross {
            true => format!("libc6-dev-{}-cross", arch.debian_name()),
            false => "libc6-dev".to_owned(),
        };
        let gcc = match cross {
            true => format!("libgcc-12-dev-{}-cross", arch.debian_name()),
            false => "libgcc-12-dev".to_owned(),
        };
        for (name, package, licence) in [
            ("glibc", libc, "LGPL-2.1-or-later"),
            ("libgcc", gcc, "GPL-3.0-or-later WITH GCC-exception-3.1"),
        ] {
            let mut component =
                Component::new("library", format!("deb:{package}"), name).licence(licence);
            if let Some(version) = installed_version(&package) {
                component = component
                    .version(&version)
                    .purl("deb/debian", &package, &version, "");
            }
            self.add(component);
        }
    }

    fn add_firmware(&mut self, firmware: &FirmwareFiles) {
        let package = &firmware.package;
        let mut component =
            Component::new("firmware", format!("deb:{}", package.name), &package.name)
                .version(&package.version)
                .licence(firmware.licence)
                .sha256(&package.sha256)
                .purl(
                    "deb/debian",
                    &package.name,
                    &package.version,
                    &format!("?arch={}", package.architecture),
                );
        for path in &firmware.files {
            let reference = format!("deb:{}/{path}", package.name);
            component
                .components
                .push(Component::new("file", reference, path));
        }
        self.add(component);
    }

    fn to_json(&self, board: &str, version: &str, properties: &[(&str, String)]) -> Result<String> {
        let image = format!("image:{board}");
        let mut depends: Vec<_> = self
            .depends
            .iter()
            .map(|(reference, on)| json!({ "ref": reference, "dependsOn": on }))
            .collect();
        let all: Vec<_> = self.components.keys().collect();
        depends.push(json!({ "ref": image, "dependsOn": all }));
        let mut root = Component::new("firmware", image, "kOS")
            .version(version)
            .licence(OWN_LICENCE);
        for (name, value) in properties {
            root = root.property(name, value);
        }
        let contents = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": root },
            "components": self.components.values().collect::<Vec<_>>(),
            "dependencies": depends,
        });
        let serial = guid::derived(&["bill of materials", &contents.to_string()]);
        let mut contents = contents;
        contents["serialNumber"] = Value::String(format!("urn:uuid:{serial}"));
        let mut text = serde_json::to_string_pretty(&contents)?;
        text.push('\n');
        Ok(text)
    }
}

fn file_reference(path: &str) -> String {
    format!("file:/{path}")
}

/// A crate that a program contains.
struct Linked {
    name: String,
    version: String,
    licence: String,
}

/// The crates that a program is linked of: no build scripts, no macros, no test's needs.
fn linked_crates(workspace: &Workspace, arch: Arch, program: &str) -> Result<Vec<Linked>> {
    let output = workspace
        .cargo()
        .args(["tree", "--locked", "--package", program])
        .args(["--edges", "normal,no-proc-macro", "--target", arch.target()])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .output()
        .context("run cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(linked_crate).collect()
}

/// `NAME vVERSION (PATH)|LICENCE`, as cargo tree was asked to say it.
fn linked_crate(line: &str) -> Result<Linked> {
    let parts = line.split_once('|').and_then(|(package, licence)| {
        let mut words = package.split(' ');
        Some((words.next()?, words.next()?.strip_prefix('v')?, licence))
    });
    let (name, version, licence) = parts.with_context(|| format!("cargo tree says \"{line}\""))?;
    ensure!(
        !licence.is_empty(),
        "crate {name} {version}: it states no licence"
    );
    Ok(Linked {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
    })
}

/// The SHA-256 of every package that does not come from the workspace, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let lock: Lock = toml::from_str(lock).context("read Cargo.lock")?;
    let with_checksum = lock.package.into_iter().filter_map(|package| {
        let checksum = package.checksum?;
        Some(((package.name, package.version), checksum))
    });
    Ok(with_checksum.collect())
}

/// The version of a Debian package of this machine; none on a machine without dpkg.
fn installed_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Version}", package])
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !version.is_empty()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::PackageRecord;

    fn bill() -> Bill {
        let mut bill = Bill::default();
        let mut archive = Archive::default();
        archive.file("etc/kos/board.toml", 0o644, b"name".to_vec());
        bill.add_files(&archive);
        bill.add_firmware(&FirmwareFiles {
            package: PackageRecord {
                name: "raspi-firmware".to_owned(),
                version: "1:1.20250430+ds-3".to_owned(),
                architecture: "all".to_owned(),
                sha256: "ab".repeat(32),
            },
            licence: "LicenseRef-raspi-firmware",
            files: vec!["usr/lib/raspi-firmware/start4.elf".to_owned()],
        });
        bill.depends
            .entry("file:/init".to_owned())
            .or_default()
            .insert("crate:libc@0.2".to_owned());
        bill
    }

    #[test]
    fn a_bill_names_files_and_packages_and_is_the_same_every_time() {
        let text = bill()
            .to_json("rpi4", "0.1.0", &[("kos:board", "rpi4".into())])
            .unwrap();
        let again = bill()
            .to_json("rpi4", "0.1.0", &[("kos:board", "rpi4".into())])
            .unwrap();
        assert_eq!(text, again);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["bomFormat"], "CycloneDX");
        assert_eq!(json["specVersion"], "1.5");
        assert_eq!(
            json["metadata"]["component"]["properties"][0]["value"],
            "rpi4"
        );
        assert!(
            json["serialNumber"]
                .as_str()
                .unwrap()
                .starts_with("urn:uuid:")
        );
        let firmware = &json["components"][0];
        assert_eq!(
            firmware["purl"],
            "pkg:deb/debian/raspi-firmware@1%3A1.20250430%2Bds-3?arch=all"
        );
        assert_eq!(
            firmware["licenses"][0]["expression"],
            "LicenseRef-raspi-firmware"
        );
        assert_eq!(firmware["hashes"][0]["content"], "ab".repeat(32));
        assert_eq!(
            firmware["components"][0]["name"],
            "usr/lib/raspi-firmware/start4.elf"
        );
        let file = &json["components"][1];
        assert_eq!(file["name"], "/etc/kos/board.toml");
        assert_eq!(file["hashes"][0]["content"], Digest::of_bytes(b"name"));
        let other = bill().to_json("rpi5", "0.1.0", &[]).unwrap();
        let other: Value = serde_json::from_str(&other).unwrap();
        assert_ne!(other["serialNumber"], json["serialNumber"]);
    }

    #[test]
    fn what_cargo_says_is_read() {
        let linked =
            linked_crate("kos-init v0.1.0 (/checkout/init/pid1)|MIT OR Apache-2.0").unwrap();
        assert_eq!(
            (linked.name.as_str(), linked.version.as_str()),
            ("kos-init", "0.1.0")
        );
        assert_eq!(linked.licence, "MIT OR Apache-2.0");
        let error = linked_crate("odd v1.0.0|")
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains("odd 1.0.0: it states no licence"), "{error}");
        assert!(linked_crate("nonsense").is_err());
        let lock = "version = 4\n[[package]]\nname = \"libc\"\nversion = \"0.2.1\"\n\
                    source = \"registry\"\nchecksum = \"abc\"\n[[package]]\nname = \"kos-init\"\n\
                    version = \"0.1.0\"\n";
        let sums = checksums(lock).unwrap();
        assert_eq!(sums[&("libc".to_owned(), "0.2.1".to_owned())], "abc");
        assert_eq!(sums.len(), 1);
    }

    #[test]
    fn every_program_of_the_image_has_its_crates_with_licence_and_checksum() {
        let workspace = Workspace::find().unwrap();
        let mut archive = Archive::default();
        archive.file("init", 0o755, Vec::new());
        for program in userland::PACKAGES {
            archive.file(&format!("bin/{program}"), 0o755, Vec::new());
        }
        let mut counts = Vec::new();
        for arch in Arch::ALL {
            let mut bill = Bill::default();
            bill.add_crates(&workspace, arch, &archive).unwrap();
            for component in bill.components.values() {
                let ours = component.name.starts_with("kos-");
                assert_eq!(component.hashes.is_empty(), ours, "{}", component.name);
                assert_eq!(component.licenses.len(), 1, "{}", component.name);
            }
            assert!(
                bill.components
                    .keys()
                    .any(|key| key.starts_with("crate:rustix@"))
            );
            assert!(
                !bill
                    .components
                    .keys()
                    .any(|key| key.starts_with("crate:serde_derive@"))
            );
            counts.push(bill.components.len());
        }
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    }
}
