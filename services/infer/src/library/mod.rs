//! The models directory: every `NAME.gguf` is the model `NAME:latest`, so is every directory `NAME` with
//! `config.json` and `*.safetensors` in it, and every manifest of the store below it is a model. Beside it there may be a directory of models that came with the box;
//! a model of the owner's hides one of the same name.

mod details;
mod digest;
mod make;
mod manifest;
mod name;
mod opened;
mod store;

pub use details::{Details, Summary};
pub use digest::Digest;
pub use make::Recipe;
pub use manifest::{MANIFEST_TYPE, Made};
pub use name::Name;
pub use opened::Opened;
pub use store::{Error as StoreError, Store, Writing};

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use thiserror::Error;

use crate::gguf;
use crate::safetensors::{self, Files, Package};
use manifest::{Kind, Manifest};

/// Longest model name in bytes, so that it is a file's name with `.gguf`.
const MAX_NAME: usize = 200;

/// Most models listed; a directory with more is a mistake.
const MAX_MODELS: usize = 1000;

/// Most entries of a package's directory that are looked at.
const MAX_ENTRIES: usize = 2000;

/// Directories of the store, which are no models.
const STORE: [&str; 2] = ["blobs", "manifests"];

/// Why there is no such model, or none that can be used.
#[derive(Debug, Error)]
pub enum Error {
    /// No file has that name.
    #[error("model '{name}' not found")]
    NotFound {
        /// As the client wrote it.
        name: String,
    },
    /// The name cannot be that of a file.
    #[error(
        "model name {name:?} is not valid, allowed: \
             [host/][namespace/]model[:tag] of letters, digits and '-_.'"
    )]
    Name {
        /// As the client wrote it.
        name: String,
    },
    /// The directory or the file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file's name.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is damaged or foreign.
    #[error("model file {file}: {source}")]
    File {
        /// The file's name.
        file: String,
        /// What is wrong.
        source: gguf::Error,
    },
    /// The files of a package are damaged or foreign.
    #[error("model {name}: {source}")]
    Package {
        /// The directory's or the model's name.
        name: String,
        /// What is wrong.
        source: Box<safetensors::Error>,
    },
    /// A manifest is damaged, or lacks what a model must have.
    #[error("the manifest of {name} {problem}")]
    Manifest {
        /// The model's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model cannot be made so.
    #[error("{0}")]
    Recipe(String),
}

/// A model file as it is now. Two that are equal hold the same model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// With its tag: `NAME:latest`.
    pub name: String,
    /// Where it is: a file, or the directory of a package.
    pub path: PathBuf,
    /// The files of a package by their names in it; none of a GGUF file.
    pub files: Arc<Files>,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last changed.
    pub modified: SystemTime,
    /// What it has beside the file.
    pub made: Arc<Made>,
}

impl Model {
    /// The file's name, for messages.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Opens its files and reads their headers.
    ///
    /// # Errors
    /// When they cannot be read, or are not sound.
    pub fn open(&self) -> Result<Opened, Error> {
        if self.files.is_empty() {
            let (file, header) = self.open_file()?;
            return Ok(Opened::Gguf(Arc::new(file), header));
        }
        let package = Package::open(&self.files).map_err(|source| Error::Package {
            name: self.name.clone(),
            source: Box::new(source),
        })?;
        Ok(Opened::Package(Box::new(package)))
    }

    /// Opens a GGUF file and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, or is not a sound GGUF file.
    pub fn open_file(&self) -> Result<(fs::File, gguf::File), Error> {
        let read = |source| Error::Read {
            path: self.file_name(),
            source,
        };
        let file = fs::File::open(&self.path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let header = gguf::File::read(BufReader::with_capacity(1 << 18, &file), length).map_err(
            |source| Error::File {
                file: self.file_name(),
                source,
            },
        )?;
        Ok((file, header))
    }
}

/// The models directory, and what is known of its files.
pub struct Library {
    directory: PathBuf,
    built_in: Option<PathBuf>,
    /// What was uploaded or made here.
    pub store: Store,
    /// Headers are large (all of the vocabulary): what is shown of them is kept.
    known: Mutex<HashMap<String, (Model, Arc<Details>)>>,
}

impl Library {
    /// The library of a directory, which may come to exist later.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            built_in: None,
            store: Store::new(directory),
            known: Mutex::default(),
        }
    }

    /// The same with the models of a directory that came with the box and is never written to.
    #[must_use]
    pub fn with_built_in(mut self, directory: Option<PathBuf>) -> Self {
        self.built_in = directory;
        self
    }

    /// All models, the last changed first. A directory that does not exist holds none.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn models(&self) -> Result<Vec<Model>, Error> {
        let mut models: Vec<_> = (self.store.names().iter())
            .filter_map(|name| self.made(name).ok().flatten())
            .collect();
        models.extend(models_in(&self.directory)?);
        if let Some(directory) = &self.built_in {
            models.extend(models_in(directory)?);
        }
        // What was made hides a plain file of the same name, and that what came with the box.
        let mut seen = HashSet::new();
        models.retain(|model| seen.insert(model.name.clone()));
        models.sort_by(|a, b| b.modified.cmp(&a.modified).then(a.name.cmp(&b.name)));
        Ok(models)
    }

    /// The model of that name, with or without `:latest`.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, name: &str) -> Result<Model, Error> {
        let whole = Name::parse(name).ok_or_else(|| Error::Name {
            name: name.chars().take(MAX_NAME).collect(),
        })?;
        if let Some(model) = self.made(&whole)? {
            return Ok(model);
        }
        self.plain(&whole).ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
        })
    }

    /// The plain file or directory of that name.
    fn plain(&self, name: &Name) -> Option<Model> {
        let stem = name.file_stem().filter(|stem| valid(stem))?;
        [Some(&self.directory), self.built_in.as_ref()]
            .into_iter()
            .flatten()
            .find_map(|directory| {
                let file = directory.join(format!("{stem}.gguf"));
                describe(tagged(&stem), file)
                    .or_else(|| describe_directory(&stem, directory.join(&stem)))
            })
    }

    /// Whether a model came with the box.
    fn is_built_in(&self, model: &Model) -> bool {
        let directory = self.built_in.as_ref();
        directory.is_some_and(|directory| model.path.parent() == Some(directory))
    }

    /// The model that has a manifest of that name.
    fn made(&self, name: &Name) -> Result<Option<Model>, Error> {
        let wrong = |problem: String| Error::Manifest {
            name: name.to_string(),
            problem,
        };
        let found = self.store.manifest(name);
        let Some((manifest, text, modified)) =
            found.map_err(|error| wrong(format!("cannot be read: {error}")))?
        else {
            return Ok(None);
        };
        let made = self.read_made(&manifest, &text).map_err(wrong)?;
        let mut model = match manifest.of(Kind::File).next() {
            None => {
                let layer = manifest.of(Kind::Model).next();
                let digest = layer.and_then(|layer| layer.digest());
                let digest = digest.ok_or_else(|| wrong("names no model file".to_owned()))?;
                let model = describe(name.to_string(), self.store.blob(&digest));
                model.ok_or_else(|| wrong(format!("names {digest}, which is not here")))?
            }
            Some(_) => {
                let layers = manifest.of(Kind::File);
                let files = layers.filter_map(|layer| {
                    let name = layer.name().filter(|name| safetensors::belongs(name))?;
                    Some((name.to_owned(), self.store.blob(&layer.digest()?)))
                });
                let model = describe_files(name.to_string(), PathBuf::new(), files.collect());
                model.ok_or_else(|| wrong("names files that are not here".to_owned()))?
            }
        };
        model.modified = modified;
        model.made = Arc::new(made);
        Ok(Some(model))
    }

    fn read_made(&self, manifest: &Manifest, text: &str) -> Result<Made, String> {
        let texts = |kind| {
            let layers = manifest.of(kind).filter_map(|layer| layer.digest());
            let read = |digest| self.store.text(&digest, manifest::MAX_TEXT);
            let texts: Result<Vec<_>, _> = layers.map(read).collect();
            texts.map_err(|error| format!("has a layer that cannot be read: {error}"))
        };
        let last = |kind| texts(kind).map(|mut texts| texts.pop());
        let json = |error: serde_json::Error| format!("has a layer that is not JSON: {error}");
        let parameters = last(Kind::Parameters)?.map(|text| serde_json::from_str(&text));
        let messages = last(Kind::Messages)?.map(|text| serde_json::from_str(&text));
        Ok(Made {
            digest: Digest::of(text.as_bytes()).hex().to_owned(),
            // Ollama's own templates are Go's; the file's own, which is Jinja, says the same.
            template: last(Kind::Template)?.filter(|text| make::is_jinja(text)),
            system: last(Kind::System)?,
            parameters: parameters.transpose().map_err(json)?.unwrap_or_default(),
            messages: messages.transpose().map_err(json)?.unwrap_or_default(),
            licenses: texts(Kind::License)?,
        })
    }

    /// What a model's header says of it, for lists.
    ///
    /// # Errors
    /// When the file cannot be read, or is not sound.
    pub fn details(&self, model: &Model) -> Result<Arc<Details>, Error> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, details)) = lock().get(&model.name)
            && known == model
        {
            return Ok(details.clone());
        }
        let details = Arc::new(Details::new(model, &model.open()?));
        let mut known = lock();
        // Files come and go: what is kept is bounded by what a directory may hold.
        if known.len() >= MAX_MODELS {
            known.clear();
        }
        known.insert(model.name.clone(), (model.clone(), details.clone()));
        Ok(details)
    }
}

fn models_in(directory: &Path) -> Result<Vec<Model>, Error> {
    let read = |source| Error::Read {
        path: directory.display().to_string(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut models = Vec::new();
    for entry in entries.take(MAX_MODELS) {
        let path = entry.map_err(read)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let Some(stem) = stem.filter(|stem| valid(stem)) else {
            continue;
        };
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            models.extend(describe(tagged(stem), path));
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            let name = name.to_owned();
            models.extend(describe_directory(&name, path));
        }
    }
    Ok(models)
}

/// A directory that holds a package.
fn describe_directory(name: &str, path: PathBuf) -> Option<Model> {
    if !valid(name) || STORE.contains(&name) {
        return None;
    }
    let names = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.take(MAX_ENTRIES).collect::<Vec<_>>()
    };
    let inner = |folder: String| [format!("{folder}/config.json"), folder];
    let files = names(&path).into_iter().flat_map(inner);
    let files = files.filter(|name| safetensors::belongs(name));
    let files = files.map(|name| (name.clone(), path.join(name)));
    let files: Files = files.filter(|(_, path)| path.is_file()).collect();
    let weights = files.keys().any(|name| name.ends_with(".safetensors"));
    match weights && files.contains_key("config.json") {
        true => describe_files(tagged(name), path, files),
        false => None,
    }
}

/// A package of these files; None when one of them is not there.
fn describe_files(name: String, path: PathBuf, files: Files) -> Option<Model> {
    let (mut bytes, mut modified) = (0, SystemTime::UNIX_EPOCH);
    for path in files.values() {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        bytes += metadata.len();
        modified = modified.max(metadata.modified().unwrap_or(modified));
    }
    Some(Model {
        name,
        path,
        files: Arc::new(files),
        bytes,
        modified,
        made: Arc::default(),
    })
}

fn tagged(stem: &str) -> String {
    if stem.contains(':') {
        stem.to_owned()
    } else {
        format!("{stem}:latest")
    }
}

fn valid(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+@".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.') && name.bytes().all(letter)
}

fn describe(name: String, path: PathBuf) -> Option<Model> {
    let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some(Model {
        name,
        path,
        files: Arc::default(),
        bytes: metadata.len(),
        modified,
        made: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_files_in_the_directory_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("models");
        fs::create_dir(&directory).unwrap();
        fs::write(root.path().join("secret.gguf"), "x").unwrap();
        fs::write(directory.join("a.gguf"), "x").unwrap();
        fs::write(directory.join("b:1b.gguf"), "x").unwrap();
        fs::write(directory.join("notes.txt"), "x").unwrap();
        fs::create_dir(directory.join("c.gguf")).unwrap();
        let library = Library::new(&directory);
        let mut names: Vec<_> = library
            .models()
            .unwrap()
            .into_iter()
            .map(|m| m.name)
            .collect();
        names.sort();
        assert_eq!(names, ["a:latest", "b:1b"]);
        assert!(library.find("a").is_ok() && library.find("a:latest").is_ok());
        assert!(library.find("b:1b").is_ok());
        assert!(matches!(library.find("b"), Err(Error::NotFound { .. })));
        assert!(matches!(library.find("c"), Err(Error::NotFound { .. })));
        for name in [
            "../secret",
            "",
            ".hidden",
            "a/b/c/d",
            "x\0y",
            &"a".repeat(300),
        ] {
            assert!(
                matches!(library.find(name), Err(Error::Name { .. })),
                "{name:?}"
            );
        }
        let error = library
            .details(&library.find("a").unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.gguf") && error.contains("truncated"),
            "{error}"
        );
    }

    #[test]
    fn what_came_with_the_box_stands_behind_what_the_owner_has() {
        let own = tempfile::tempdir().unwrap();
        let built_in = tempfile::tempdir().unwrap();
        for (directory, file) in [
            (&own, "a.gguf"),
            (&built_in, "a.gguf"),
            (&built_in, "b.gguf"),
        ] {
            fs::write(directory.path().join(file), "x").unwrap();
        }
        let library = Library::new(own.path()).with_built_in(Some(built_in.path().to_owned()));
        let mut names: Vec<_> = library
            .models()
            .unwrap()
            .into_iter()
            .map(|m| m.name)
            .collect();
        names.sort();
        assert_eq!(names, ["a:latest", "b:latest"]);
        assert!(library.find("a").unwrap().path.starts_with(own.path()));
        assert!(library.find("b").unwrap().path.starts_with(built_in.path()));
    }

    #[test]
    fn a_directory_with_a_configuration_and_weights_is_a_model() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/config.json", "{}");
        write("a/model.safetensors", "12345678");
        write("a/1_Pooling/config.json", "{}");
        write("a/README.md", "no part of it");
        write("b:1/config.json", "{}");
        write("blobs/config.json", "{}");
        write("blobs/model.safetensors", "");
        let library = Library::new(root.path());
        let models = library.models().unwrap();
        assert_eq!(models.len(), 1);
        assert_eq!((models[0].name.as_str(), models[0].bytes), ("a:latest", 12));
        assert_eq!(library.find("a").unwrap(), models[0]);
        let error = library.details(&models[0]).unwrap_err().to_string();
        assert!(
            error.contains("config.json: 'architectures' is missing"),
            "{error}"
        );
        library.delete("a").unwrap();
        assert!(library.models().unwrap().is_empty());
    }

    #[test]
    fn a_missing_directory_is_an_empty_library() {
        assert!(
            Library::new(Path::new("/nonexistent"))
                .models()
                .unwrap()
                .is_empty()
        );
    }
}
