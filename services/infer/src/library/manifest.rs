//! What makes a model: a list of blobs, in the form of Ollama's manifests.

use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;

/// Largest manifest: some dozen layers of 200 bytes are usual.
pub(super) const MAX_MANIFEST: u64 = 256 * 1024;
/// Largest text of a model: templates have some 10 KB, licences 30 KB.
pub(super) const MAX_TEXT: u64 = 1024 * 1024;

/// What registries call it.
pub const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Template,
    System,
    Parameters,
    Messages,
    License,
    /// A file of a package, by its name.
    File,
    /// What this engine has no use for, or refuses: projectors, adapters.
    Other,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Model, "application/vnd.ollama.image.model"),
    (Kind::Template, "application/vnd.ollama.image.template"),
    (Kind::System, "application/vnd.ollama.image.system"),
    (Kind::Parameters, "application/vnd.ollama.image.params"),
    (Kind::Messages, "application/vnd.ollama.image.messages"),
    (Kind::License, "application/vnd.ollama.image.license"),
    (Kind::File, "application/vnd.kos.image.file"),
];

/// A blob, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    media_type: String,
    digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// What a package calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Layer {
    pub(super) fn new(kind: Kind, digest: &Digest, size: u64) -> Self {
        let name = KINDS.iter().find(|(one, _)| *one == kind);
        Self {
            media_type: name.map_or(CONFIG, |(_, name)| name).to_owned(),
            digest: digest.to_string(),
            size,
            name: None,
        }
    }

    /// A file of a package.
    pub(super) fn file(name: &str, digest: &Digest, size: u64) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::new(Kind::File, digest, size)
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn kind(&self) -> Kind {
        KINDS
            .iter()
            .find(|(_, name)| *name == self.media_type)
            .map_or(Kind::Other, |(kind, _)| *kind)
    }

    /// Which blob; None when it is no digest.
    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.digest)
    }
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Layer,
    pub(super) layers: Vec<Layer>,
}

impl Manifest {
    pub(super) fn new(config: Layer, layers: Vec<Layer>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            config,
            layers,
        }
    }

    pub(super) fn config(&self) -> &Layer {
        &self.config
    }

    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.kind() == kind)
    }

    /// Every blob that it needs.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        let all = self.layers.iter().chain([&self.config]);
        all.filter_map(Layer::digest)
    }
}

/// What a model has beside its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The SHA-256 of its manifest, in hex; empty for a plain file.
    pub digest: String,
    /// In place of the file's own.
    pub template: Option<String>,
    /// What it is told before everything else.
    pub system: Option<String>,
    /// Options for requests that do not set them.
    pub parameters: Map<String, Value>,
    /// What has been said before everything else: objects with `role` and `content`.
    pub messages: Vec<Value>,
    /// Its licences.
    pub licenses: Vec<String>,
}

/// Reads at most `most` bytes of text.
pub(super) fn read_text(file: impl Read, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    let read = file.take(most + 1).read_to_string(&mut text)?;
    if read as u64 > most {
        let text = format!("more than {most} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    }
    Ok(text)
}
