//! The files of manifests: the image's, which nobody changes, and the owner's, which PID 1 alone
//! writes, each so that a cut of power leaves the old text or the new one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kos_manifest::control::MAX_MANIFEST;
use kos_manifest::error::ManifestError;
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::ServiceSet;

/// More files than this in one directory are not read.
const MAX_FILES: usize = 1024;
/// Longest name of a manifest, without `.toml`: a template's and an instance's together.
const MAX_NAME: usize = 80;

/// Both layers of manifests.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    image: PathBuf,
    owner: PathBuf,
    sets: Arc<SyscallSets>,
}

/// One layer: file names and texts.
type Layer = Vec<(String, String)>;

/// What is to become of the owner's layer.
#[derive(Debug, Clone)]
pub enum Edit {
    /// This name gets this text.
    Set(String, String),
    /// This name's is removed.
    Remove(String),
}

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The manifests would be wrong.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// Nothing could be read or written.
    #[error("{0:#}")]
    Files(#[from] anyhow::Error),
}

impl Manifests {
    /// The manifests of two directories.
    pub fn new(image: &Path, owner: &Path, sets: Arc<SyscallSets>) -> Self {
        Manifests {
            image: image.to_owned(),
            owner: owner.to_owned(),
            sets,
        }
    }

    /// The sets of system calls that they name.
    pub fn syscall_sets(&self) -> &Arc<SyscallSets> {
        &self.sets
    }

    /// Reads both layers.
    ///
    /// # Errors
    /// The first thing that is wrong in either.
    pub fn read(&self) -> Result<ServiceSet, EditError> {
        self.parse(self.owners()?)
    }

    /// Reads the image's layer alone.
    ///
    /// # Errors
    /// The first thing that is wrong in it.
    pub fn read_image(&self) -> Result<ServiceSet, EditError> {
        let image = toml_files(&self.image)?;
        Ok(ServiceSet::parse(image, &self.sets)?)
    }

    /// The text of a service's manifest: the owner's when there is one, else the image's; that of
    /// the template for an instance.
    ///
    /// # Errors
    /// There is none by that name.
    pub fn text(&self, name: &str) -> Result<String> {
        let mut names = vec![plain(name)?.to_owned()];
        if let Some((template, _)) = name.split_once('@') {
            names.push(format!("{template}@"));
        }
        for directory in [&self.owner, &self.image] {
            for name in &names {
                match read_text(&file_of(directory, name)) {
                    Ok(Some(text)) => return Ok(text),
                    Ok(None) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        bail!("there is no manifest '{name}'")
    }

    /// Makes an edit durable, if the manifests are right with it; returns what is then to run.
    ///
    /// # Errors
    /// They would be wrong, and nothing has changed; or the disk does not take it.
    pub fn edit(&self, edit: &Edit) -> Result<ServiceSet, EditError> {
        let mut owner = self.owners()?;
        let (Edit::Set(name, _) | Edit::Remove(name)) = edit;
        let path = file_of(&self.owner, plain(name)?);
        let file = path.display().to_string();
        let before = owner.len();
        owner.retain(|(other, _)| *other != file);
        match edit {
            Edit::Set(_, text) => {
                if text.len() > MAX_MANIFEST {
                    let found = text.len();
                    let error =
                        anyhow::anyhow!("{file}: found {found} bytes, allowed: {MAX_MANIFEST}");
                    return Err(error.into());
                }
                owner.push((file, text.clone()));
                owner.sort();
            }
            Edit::Remove(_) if owner.len() == before => {
                let error = anyhow::anyhow!("the owner has no manifest '{name}'");
                return Err(error.into());
            }
            Edit::Remove(_) => {}
        }
        let services = self.parse(owner)?;
        match edit {
            Edit::Set(_, text) => write_durably(&self.owner, &path, text)?,
            Edit::Remove(_) => remove_durably(&self.owner, &path)?,
        }
        Ok(services)
    }

    fn parse(&self, owner: Layer) -> Result<ServiceSet, EditError> {
        let image = toml_files(&self.image)?;
        Ok(ServiceSet::parse_layers(image, owner, &self.sets)?)
    }

    fn owners(&self) -> Result<Layer> {
        if !self.owner.exists() {
            return Ok(Vec::new());
        }
        toml_files(&self.owner)
    }
}

/// A name that is one file's, in the directory that is meant and in no other.
fn plain(name: &str) -> Result<&str> {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-@".contains(&b));
    ensure!(
        letters && !name.is_empty() && name.len() <= MAX_NAME,
        "found '{}', allowed: a service's name",
        name.chars().take(MAX_NAME).collect::<String>()
    );
    Ok(name)
}

fn file_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.toml"))
}

/// The TOML files of a directory as `(path, text)`, by name.
///
/// # Errors
/// The directory or a file cannot be read, or there are too many.
pub fn toml_files(directory: &Path) -> Result<Layer> {
    let mut files = Vec::new();
    let listing =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in listing {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if files.len() == MAX_FILES {
            bail!("{} has more than {MAX_FILES} files", directory.display());
        }
        let text = read_text(&path)?
            .with_context(|| format!("cannot read {}: it has gone", path.display()))?;
        files.push((path.display().to_string(), text));
    }
    files.sort();
    Ok(files)
}

/// A file's text within the bound of a manifest; `None` when there is no such file.
fn read_text(path: &Path) -> Result<Option<String>> {
    use std::io::Read;
    let about = || format!("cannot read {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(about)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(about)?;
    ensure!(
        bytes.len() <= MAX_MANIFEST,
        "{} has more than {MAX_MANIFEST} bytes",
        path.display()
    );
    String::from_utf8(bytes).map(Some).with_context(about)
}

/// Old text or new, whenever the power goes: the new one is whole on the disk before it takes the
/// old one's name, and has the name for good when this returns.
fn write_durably(directory: &Path, path: &Path, text: &str) -> Result<()> {
    let about = || format!("cannot write {}", path.display());
    fs::create_dir_all(directory).with_context(about)?;
    // No `.toml`, so that what a cut of power leaves is not read.
    let fresh = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(about)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written.with_context(about)?;
    sync(directory).with_context(about)
}

fn remove_durably(directory: &Path, path: &Path) -> Result<()> {
    let about = || format!("cannot remove {}", path.display());
    fs::remove_file(path).with_context(about)?;
    sync(directory).with_context(about)
}

fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        root: tempfile::TempDir,
        manifests: Manifests,
    }

    fn manifest(name: &str, uid: u32, more: &str) -> String {
        format!("name = \"{name}\"\ndescription = \"d\"\nprogram = \"/bin/x\"\nuid = {uid}\n{more}")
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let image = root.path().join("image");
        fs::create_dir(&image).unwrap();
        fs::write(image.join("echo.toml"), manifest("echo", 1001, "")).unwrap();
        let set = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), set.to_owned())]).unwrap();
        let manifests = Manifests::new(&image, &root.path().join("owner"), Arc::new(sets));
        Fixture { root, manifests }
    }

    fn set(name: &str, text: String) -> Edit {
        Edit::Set(name.to_owned(), text)
    }

    #[test]
    fn an_edit_is_kept_and_taken_back() {
        let fixture = fixture();
        let manifests = &fixture.manifests;
        assert_eq!(manifests.read().unwrap().len(), 1);
        let text = manifest("mine", 20_001, "");
        let services = manifests.edit(&set("mine", text.clone())).unwrap();
        assert_eq!(services.len(), 2);
        assert_eq!(manifests.text("mine").unwrap(), text);
        assert_eq!(manifests.read().unwrap(), services);
        let files: Vec<_> = fs::read_dir(fixture.root.path().join("owner"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(files, ["mine.toml"]);
        let services = manifests.edit(&Edit::Remove("mine".to_owned())).unwrap();
        assert_eq!(services.len(), 1);
        assert!(manifests.text("mine").is_err());
        assert!(manifests.edit(&Edit::Remove("echo".to_owned())).is_err());
    }

    #[test]
    fn a_wrong_manifest_changes_nothing_and_is_named() {
        let fixture = fixture();
        let error = fixture
            .manifests
            .edit(&set("mine", manifest("mine", 20_001, "pids = 3\n")))
            .unwrap_err();
        assert!(error.to_string().contains("owner/mine.toml:5:"), "{error}");
        assert!(!fixture.root.path().join("owner").exists());
        for name in ["../mine", "", "a/b", ".hidden"] {
            assert!(fixture.manifests.edit(&set(name, String::new())).is_err());
            assert!(fixture.manifests.text(name).is_err());
        }
    }

    #[test]
    fn a_wrong_layer_of_the_owner_leaves_the_images() {
        let fixture = fixture();
        let owner = fixture.root.path().join("owner");
        fs::create_dir(&owner).unwrap();
        fs::write(owner.join("bad.toml"), "name = 3").unwrap();
        assert!(fixture.manifests.read().is_err());
        assert_eq!(fixture.manifests.read_image().unwrap().len(), 1);
        // What a cut of power has left is not a manifest.
        fs::rename(owner.join("bad.toml"), owner.join("bad.new")).unwrap();
        assert_eq!(fixture.manifests.read().unwrap().len(), 1);
    }
}
