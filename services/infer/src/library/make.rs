//! Makes, copies and deletes models.

use std::fs;

use serde_json::{Map, Value};

use super::digest::Digest;
use super::manifest::{Kind, Layer, MAX_TEXT, Manifest};
use super::{Error, Library, Model, Name, StoreError};
use crate::gguf;
use crate::safetensors::{Files, Package, belongs};

/// What a model is to be made of; what is None or empty is taken from the model that it is made
/// from.
#[derive(Debug, Default)]
pub struct Recipe {
    /// Another model's name.
    pub from: Option<String>,
    /// Uploaded files by their names: one of GGUF, or those of a package.
    pub files: Vec<(String, Digest)>,
    /// The chat template, in Jinja.
    pub template: Option<String>,
    /// What it is told first.
    pub system: Option<String>,
    /// Options.
    pub parameters: Map<String, Value>,
    /// What has been said first: objects with `role` and `content`.
    pub messages: Vec<Value>,
    /// Licences.
    pub licenses: Vec<String>,
}

/// Whether a template is of the kind that this engine renders; Ollama's are Go's.
pub(super) fn is_jinja(template: &str) -> bool {
    template.contains("{%") || template.contains("messages") || !template.contains("{{")
}

impl Library {
    /// Makes a model, telling each step.
    ///
    /// # Errors
    /// When the recipe is not sound, or it cannot be stored.
    pub fn make(&self, name: &Name, recipe: Recipe, tell: &dyn Fn(String)) -> Result<(), Error> {
        let (mut layers, config) = match (&recipe.from, recipe.files.as_slice()) {
            (_, [(name, digest)]) if !name.ends_with(".safetensors") => {
                (vec![self.uploaded(digest, tell)?], None)
            }
            (_, files @ [_, ..]) => (self.package(files, tell)?, None),
            (Some(from), []) => self.layers_of(from, tell)?,
            (None, []) => {
                let text = "neither 'from' nor 'files' was specified".to_owned();
                return Err(Error::Recipe(text));
            }
        };
        if recipe
            .template
            .as_deref()
            .is_some_and(|text| !is_jinja(text))
        {
            return Err(Error::Recipe(
                "the template is one of Go, allowed: Jinja, as in a file's own chat template"
                    .to_owned(),
            ));
        }
        let one = |kind, text: Option<String>| (kind, text.into_iter().collect::<Vec<_>>());
        let parameters = (!recipe.parameters.is_empty()).then(|| {
            // Those that are not named stay as they were.
            let mut all = self.parameters_of(&layers);
            all.extend(recipe.parameters.clone());
            Value::Object(all).to_string()
        });
        let messages =
            (!recipe.messages.is_empty()).then(|| Value::Array(recipe.messages).to_string());
        for (kind, texts) in [
            one(Kind::Template, recipe.template),
            one(Kind::System, recipe.system),
            one(Kind::Parameters, parameters),
            one(Kind::Messages, messages),
            (Kind::License, recipe.licenses),
        ] {
            if texts.is_empty() {
                continue;
            }
            layers.retain(|layer| layer.kind() != kind);
            for text in texts.iter().filter(|text| !text.is_empty()) {
                if text.len() as u64 > MAX_TEXT {
                    let found = text.len();
                    return Err(Error::Recipe(format!(
                        "a text has {found} bytes, allowed: at most {MAX_TEXT}"
                    )));
                }
                let digest = self.store.put(text.as_bytes())?;
                tell(format!("creating new layer {digest}"));
                layers.push(Layer::new(kind, &digest, text.len() as u64));
            }
        }
        let config = match config {
            Some(config) => config,
            None => {
                let text = match layers.iter().any(|layer| layer.kind() == Kind::File) {
                    true => r#"{"model_format":"safetensors"}"#,
                    false => r#"{"model_format":"gguf"}"#,
                };
                let digest = self.store.put(text.as_bytes())?;
                Layer::new(Kind::Other, &digest, text.len() as u64)
            }
        };
        tell("writing manifest".to_owned());
        self.store
            .put_manifest(name, &Manifest::new(config, layers))?;
        Ok(())
    }

    /// Gives a model the manifest that a registry has for it. Its blobs must be here.
    ///
    /// # Errors
    /// When it is no manifest, lacks a blob or a model file, or cannot be stored.
    pub fn register(&self, name: &Name, text: &[u8]) -> Result<(), Error> {
        let wrong = |problem: String| Error::Recipe(format!("the manifest of {name} {problem}"));
        let manifest: Manifest = serde_json::from_slice(text)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        for layer in manifest.layers.iter().chain([manifest.config()]) {
            let digest = layer
                .digest()
                .ok_or_else(|| wrong("has a layer without a digest".to_owned()))?;
            match self.store.length(&digest) {
                Some(length) if length == layer.size => {}
                Some(length) => {
                    let size = layer.size;
                    return Err(wrong(format!(
                        "says that {digest} has {size} bytes; it has {length}"
                    )));
                }
                None => return Err(wrong(format!("names {digest}, which is not here"))),
            }
        }
        let file = manifest.of(Kind::Model).find_map(Layer::digest);
        let file = file.ok_or_else(|| wrong("names no model file".to_owned()))?;
        self.uploaded(&file, &|_| {})?;
        Ok(self.store.put_manifest(name, &manifest)?)
    }

    /// A model's manifest, as a registry has it; a plain file gets one.
    ///
    /// # Errors
    /// When there is no such model, or it cannot be read.
    pub fn manifest(&self, name: &str) -> Result<String, Error> {
        let whole = Name::parse(name).ok_or_else(|| Error::Name {
            name: name.to_owned(),
        })?;
        // The error of one that is not here.
        self.find(name)?;
        if self.store.manifest(&whole).ok().flatten().is_none() {
            self.copy(name, &whole)?;
        }
        let found = self.store.manifest(&whole);
        let found = found.map_err(|source| Error::Read {
            path: name.to_owned(),
            source,
        })?;
        found
            .map(|(_, text, _)| text)
            .ok_or_else(|| Error::NotFound {
                name: name.to_owned(),
            })
    }

    /// Gives a model another name, too.
    ///
    /// # Errors
    /// When there is none, or it cannot be stored.
    pub fn copy(&self, from: &str, to: &Name) -> Result<(), Error> {
        let recipe = Recipe {
            from: Some(from.to_owned()),
            ..Recipe::default()
        };
        self.make(to, recipe, &|_| {})
    }

    /// Removes a model, and what it alone had.
    ///
    /// # Errors
    /// When there is none, or it cannot be removed.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let model = self.find(name)?;
        let whole = Name::parse(name).ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
        })?;
        if self.is_built_in(&model) {
            let text = format!("{name:?} came with the box and cannot be deleted");
            return Err(Error::Recipe(text));
        }
        if model.made.digest.is_empty() {
            let path = model.path;
            let removed = match model.files.is_empty() {
                true => fs::remove_file(&path),
                false => fs::remove_dir_all(&path),
            };
            return removed.map_err(|source| {
                Error::Store(StoreError::Io {
                    act: "remove",
                    path,
                    source,
                })
            });
        }
        Ok(self.store.remove(&whole)?)
    }

    /// The layer of an uploaded file, which must be a model.
    fn uploaded(&self, digest: &Digest, tell: &dyn Fn(String)) -> Result<Layer, Error> {
        let Some(length) = self.store.length(digest) else {
            return Err(Error::Recipe(format!(
                "blob {digest} is not here: upload it first"
            )));
        };
        tell("parsing GGUF".to_owned());
        let path = self.store.blob(digest);
        let opened = fs::File::open(&path).map_err(|source| Error::Read {
            path: digest.to_string(),
            source,
        })?;
        gguf::File::read(std::io::BufReader::new(opened), length)
            .map_err(|error| Error::Recipe(format!("blob {digest} is no model: {error}")))?;
        tell(format!("using existing layer {digest}"));
        Ok(Layer::new(Kind::Model, digest, length))
    }

    /// The layers of uploaded files, which together must be a model. What is no part of one (a licence, a
    /// tokenizer in another form) is left out.
    fn package(
        &self,
        files: &[(String, Digest)],
        tell: &dyn Fn(String),
    ) -> Result<Vec<Layer>, Error> {
        let mut layers = Vec::new();
        let mut paths = Files::new();
        for (name, digest) in files.iter().filter(|(name, _)| belongs(name)) {
            let Some(length) = self.store.length(digest) else {
                return Err(Error::Recipe(format!(
                    "blob {digest} ({name}) is not here: upload it first"
                )));
            };
            paths.insert(name.clone(), self.store.blob(digest));
            layers.push(Layer::file(name, digest, length));
        }
        tell("parsing safetensors".to_owned());
        // The tokenizer, too: a model that could not be loaded is told now.
        let checked = Package::open(&paths).and_then(|package| package.tokenizer());
        checked.map_err(|error| Error::Recipe(format!("the files are no model: {error}")))?;
        for (_, digest) in files {
            tell(format!("using existing layer {digest}"));
        }
        Ok(layers)
    }

    /// The layers of a model that is here; a plain file becomes a blob.
    fn layers_of(
        &self,
        from: &str,
        tell: &dyn Fn(String),
    ) -> Result<(Vec<Layer>, Option<Layer>), Error> {
        let model: Model = self.find(from)?;
        let name = Name::parse(from).ok_or_else(|| Error::Name {
            name: from.to_owned(),
        })?;
        if !model.made.digest.is_empty()
            && let Ok(Some((manifest, _, _))) = self.store.manifest(&name)
        {
            for digest in manifest.digests() {
                tell(format!("using existing layer {digest}"));
            }
            let config = manifest.config().clone();
            return Ok((manifest.layers, Some(config)));
        }
        if !model.files.is_empty() {
            let files = model.files.iter();
            let files = files.map(|(name, path)| Ok((name.clone(), self.store.take_in(path)?)));
            let files = files.collect::<Result<Vec<_>, Error>>()?;
            return Ok((self.package(&files, tell)?, None));
        }
        let digest = self.store.take_in(&model.path)?;
        Ok((vec![self.uploaded(&digest, tell)?], None))
    }

    fn parameters_of(&self, layers: &[Layer]) -> Map<String, Value> {
        let mut kinds = layers
            .iter()
            .filter(|layer| layer.kind() == Kind::Parameters);
        let digest = kinds.next().and_then(Layer::digest);
        let text = digest.and_then(|digest| self.store.text(&digest, MAX_TEXT).ok());
        text.and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }
}
