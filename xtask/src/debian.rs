//! Files out of Debian packages that are not installed: another architecture's, another release's,
//! or such as would be in the way.
//!
//! apt downloads and verifies them, with settings of its own beside the system's; `dpkg-deb`
//! unpacks them into the cache. What is in the cache stays as it is until `cargo xtask clean`, and
//! each package's version and hash are remembered beside it, for the image's manifest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::digest::Digest;
use crate::stage::Stage;
use crate::workspace::Workspace;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Its name.
    pub name: &'static str,
    /// The architecture that it is built for; nothing for one that fits all.
    pub arch: Option<Arch>,
}

/// What is known of a package that was unpacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageRecord {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// SHA-256 of the package's file.
    pub sha256: String,
}

/// Packages that were unpacked over each other.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// Where their `/` is.
    pub root: PathBuf,
    /// Which they were.
    pub packages: Vec<PackageRecord>,
}

impl Unpacked {
    /// Reads a file by its path in the packages.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let full = self.root.join(path);
        std::fs::read(&full).with_context(|| {
            let names: Vec<_> = self.packages.iter().map(|p| p.name.as_str()).collect();
            format!("read {path} of Debian's {}", names.join(", "))
        })
    }
}

/// Packages under a name of their own in the cache; downloaded at their first use.
pub fn unpacked(
    workspace: &Workspace,
    stage: &Stage,
    name: &str,
    wanted: &[Wanted],
) -> Result<Unpacked> {
    let cache = workspace.cache()?.join("debian");
    std::fs::create_dir_all(&cache)?;
    let ready = cache.join(name);
    if let Some(found) = read_cached(&ready)? {
        return Ok(found);
    }
    let lock = File::create(cache.join("lock")).context("create the lock of Debian's packages")?;
    if lock.try_lock().is_err() {
        stage.note("waiting: another run is downloading packages");
        lock.lock()
            .context("wait for the lock of Debian's packages")?;
    }
    if let Some(found) = read_cached(&ready)? {
        return Ok(found);
    }
    let names: Vec<_> = wanted.iter().map(Wanted::spelled).collect();
    download(stage, &cache, &ready, wanted)
        .with_context(|| format!("get Debian's {} (nothing is installed)", names.join(", ")))?;
    read_cached(&ready)?.context("the packages that were just unpacked are not in the cache")
}

fn read_cached(ready: &Path) -> Result<Option<Unpacked>> {
    let record = ready.join("packages.json");
    let Ok(text) = std::fs::read_to_string(&record) else {
        return Ok(None);
    };
    Ok(Some(Unpacked {
        root: ready.join("root"),
        packages: serde_json::from_str(&text)
            .with_context(|| format!("read {}", record.display()))?,
    }))
}

fn download(stage: &Stage, cache: &Path, ready: &Path, wanted: &[Wanted]) -> Result<()> {
    for program in ["apt-get", "dpkg-deb"] {
        ensure!(
            crate::hostpackages::find_program(program).is_some(),
            "this host has no {program}; use a Debian 12 machine or container"
        );
    }
    let apt = Apt::prepare(cache)?;
    stage.note("reading Debian's lists of packages");
    stage.run(apt.command().arg("update"))?;
    let work = tempfile::Builder::new()
        .prefix("partial-")
        .tempdir_in(cache)?;
    let debs = work.path().join("debs");
    std::fs::create_dir(&debs)?;
    let mut packages = Vec::new();
    for package in wanted {
        stage.note(format!("downloading {}", package.spelled()));
        let mut command = apt.command();
        command
            .arg("download")
            .arg(package.spelled())
            .current_dir(&debs);
        stage.run(&mut command)?;
    }
    let root = work.path().join("root");
    std::fs::create_dir(&root)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&debs)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    ensure!(
        files.len() == wanted.len(),
        "{} packages were asked for and {} files came",
        wanted.len(),
        files.len()
    );
    for file in files {
        stage.note(format!("unpacking {}", file.display()));
        stage.run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root))?;
        packages.push(PackageRecord {
            name: field(&file, "Package")?,
            version: field(&file, "Version")?,
            architecture: field(&file, "Architecture")?,
            sha256: Digest::of_file(&file)?,
        });
    }
    std::fs::remove_dir_all(&debs)?;
    std::fs::write(
        work.path().join("packages.json"),
        serde_json::to_vec_pretty(&packages)?,
    )?;
    std::fs::rename(work.keep(), ready).context("keep the packages' files")
}

fn field(file: &Path, name: &str) -> Result<String> {
    let output = Command::new("dpkg-deb")
        .arg("--field")
        .arg(file)
        .arg(name)
        .output()
        .context("run dpkg-deb")?;
    ensure!(
        output.status.success(),
        "dpkg-deb: no {name} in {}",
        file.display()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Wanted {
    fn spelled(&self) -> String {
        match self.arch {
            Some(arch) => format!("{}:{}", self.name, arch.debian_name()),
            None => self.name.to_owned(),
        }
    }
}

/// apt with lists and settings of its own. What is installed on this system does not matter to it.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn prepare(cache: &Path) -> Result<Apt> {
        let directory = cache.join("apt");
        for name in ["lists/partial", "archives/partial"] {
            std::fs::create_dir_all(directory.join(name))?;
        }
        let mirrors = Mirrors::of_system(Path::new("/etc/apt"))?;
        std::fs::write(directory.join("sources.list"), mirrors.sources())?;
        Ok(Apt { directory })
    }

    fn command(&self) -> Command {
        let architectures: Vec<_> = Arch::ALL.iter().map(|arch| arch.debian_name()).collect();
        let mut command = Command::new("apt-get");
        for (option, value) in [
            ("Dir::Etc::sourcelist", self.file("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::State::lists", self.file("lists")),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Cache", self.file("")),
            ("APT::Architectures", architectures.join(",")),
            // Root's apt would hand the download to a user who cannot write here.
            ("APT::Sandbox::User", String::new()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

/// Where this system gets Debian's packages from.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    archive: String,
    security: String,
}

impl Mirrors {
    /// Reads both forms of apt's configuration below `directory`.
    fn of_system(directory: &Path) -> Result<Mirrors> {
        let mut files = vec![directory.join("sources.list")];
        if let Ok(listing) = std::fs::read_dir(directory.join("sources.list.d")) {
            files.extend(listing.filter_map(|entry| Some(entry.ok()?.path())));
        }
        files.sort();
        let mut found = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => found.extend(one_line_sources(&text)),
                Some("sources") => found.extend(paragraph_sources(&text)),
                _ => {}
            }
        }
        let with = |wanted: bool| {
            found
                .iter()
                .find(|(uri, suite)| {
                    suite.ends_with("-security") == wanted && is_debians(uri, suite)
                })
                .map(|(uri, _)| uri.clone())
        };
        match (with(false), with(true)) {
            (Some(archive), Some(security)) => Ok(Mirrors { archive, security }),
            _ => bail!(
                "{} names no mirror of Debian's archive and of its security updates; use a Debian \
                 machine or container",
                directory.display()
            ),
        }
    }

    /// Debian 12 with its security updates, and the firmware that is not free software of Debian
    /// 14: the Raspberry Pi's of Debian 12 is older than the Pi 5, and that of Debian 13 does not
    /// start from a chosen partition of a GPT (raspberrypi/rpi-eeprom#654). A package that is in two
    /// of them is taken in its newer version.
    fn sources(&self) -> String {
        [
            format!("{} bookworm main", self.archive),
            format!("{} bookworm-security main", self.security),
            format!("{} forky non-free-firmware", self.archive),
        ]
        .iter()
        .map(|line| format!("deb [signed-by={KEYRING}] {line}\n"))
        .collect()
    }
}

/// Only Debian's own releases, so that a third party's archive is not taken for a mirror.
fn is_debians(uri: &str, suite: &str) -> bool {
    const RELEASES: &[&str] = &[
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "stable",
        "oldstable",
        "testing",
        "unstable",
    ];
    let release = suite.split('-').next().unwrap_or_default();
    RELEASES.contains(&release) && !uri.contains("ubuntu")
}

/// `deb [options] URI suite component…`
fn one_line_sources(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut words = rest.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

/// Paragraphs of `URIs:` and `Suites:` (deb822).
fn paragraph_sources(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let words = |key: &str| -> Vec<String> {
            paragraph
                .lines()
                .filter_map(|line| line.strip_prefix(key))
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect()
        };
        for uri in words("URIs:") {
            for suite in words("Suites:") {
                found.push((uri.clone(), suite));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_mirrors_are_found_in_both_forms() {
        let directory = tempfile::tempdir().unwrap();
        let read = || Mirrors::of_system(directory.path());
        assert!(read().unwrap_err().to_string().contains("names no mirror"));
        std::fs::write(
            directory.path().join("sources.list"),
            "# a comment\ndeb [arch=amd64] http://m.example/debian bookworm main\n\
             deb http://m.example/debian-security bookworm-security main\n",
        )
        .unwrap();
        let expected = Mirrors {
            archive: "http://m.example/debian".to_owned(),
            security: "http://m.example/debian-security".to_owned(),
        };
        assert_eq!(read().unwrap(), expected);
        std::fs::remove_file(directory.path().join("sources.list")).unwrap();
        std::fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(directory.path().join("sources.list.d").join(name), text).unwrap();
        };
        file(
            "a.sources",
            "Types: deb\nURIs: http://other.example/x\nSuites: nodistro\n",
        );
        file(
            "debian.sources",
            "Types: deb\n# why\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\n\nTypes: deb\nURIs: http://m.example/debian-security\n\
             Suites: bookworm-security\n",
        );
        assert_eq!(read().unwrap(), expected);
    }
}
