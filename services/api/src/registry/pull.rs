//! From a registry, or from a file's address, to the inference service.

use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, RANGE};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use sha2::Digest as _;

use super::address::{File, Reference, Source, check_digest};
use super::body::{Lines, Progress, passed};
use super::client::{Client, Fetched};
use super::error::Error;
use super::infer::{Held, Infer, Upload};
use super::token::{Credentials, Session};

/// What registries call a list of layers.
pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Tries after each other that bring nothing; one that brings something begins the count again.
const TRIES: u32 = 6;
/// Pause after the first of them; each next is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Most layers of a model; some dozen are usual.
const MAX_LAYERS: usize = 128;

/// What a registry says of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Layer {
    /// Its name.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What a registry says of a model, as far as it is needed to get it.
#[derive(Debug, Deserialize)]
struct Manifest {
    config: Layer,
    layers: Vec<Layer>,
}

/// The blobs of a manifest, each once.
pub fn layers(host: &str, text: &[u8]) -> Result<Vec<Layer>, Error> {
    let wrong = |problem: String| Error::Answer {
        host: host.to_owned(),
        problem,
    };
    let manifest: Manifest =
        serde_json::from_slice(text).map_err(|error| wrong(format!("no manifest: {error}")))?;
    if manifest.layers.len() > MAX_LAYERS {
        let found = manifest.layers.len();
        return Err(wrong(format!(
            "a manifest of {found} layers, allowed: {MAX_LAYERS}"
        )));
    }
    let mut all: Vec<Layer> = Vec::new();
    for layer in manifest.layers.into_iter().chain([manifest.config]) {
        check_digest(&layer.digest).map_err(|error| wrong(error.to_string()))?;
        if !all.iter().any(|one| one.digest == layer.digest) {
            all.push(layer);
        }
    }
    Ok(all)
}

/// One pull.
pub struct Pull {
    /// What connects.
    pub client: Client,
    /// Who keeps it.
    pub infer: Infer,
    /// Who asks the registry.
    pub credentials: Option<Credentials>,
}

impl Pull {
    /// Does it, telling each step.
    pub async fn run(self, source: Source, lines: &Lines) -> Result<(), Error> {
        match source {
            Source::Registry(reference) => self.model(&reference, lines).await,
            Source::File(file) => self.file(&file, lines).await,
        }
    }

    async fn model(mut self, reference: &Reference, lines: &Lines) -> Result<(), Error> {
        lines.say("pulling manifest").await;
        let mut session = Session::new(&self.client, self.credentials.take());
        let uri = reference.uri(&format!("manifests/{}", reference.tag))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST));
        let answer = session.get(Method::GET, &uri, &headers).await?;
        if answer.parts.status == StatusCode::NOT_FOUND {
            return Err(Error::Missing);
        }
        let manifest = answer.success().await?.text().await?;
        for layer in layers(&reference.host, &manifest)? {
            let uri = reference.uri(&format!("blobs/{}", layer.digest))?;
            let mut way = Way {
                session: &mut session,
                infer: &self.infer,
                lines,
                uri: &uri,
            };
            way.blob(&layer).await?;
        }
        lines.say("verifying sha256 digest").await;
        lines.say("writing manifest").await;
        self.infer.put_manifest(&reference.name(), manifest).await?;
        lines.say("success").await;
        Ok(())
    }

    async fn file(mut self, file: &File, lines: &Lines) -> Result<(), Error> {
        lines.say(&format!("pulling {}", file.name)).await;
        let mut session = Session::new(&self.client, self.credentials.take());
        let mut way = Way {
            session: &mut session,
            infer: &self.infer,
            lines,
            uri: &file.uri,
        };
        let digest = way.file(file.digest.as_deref()).await?;
        lines.say("writing manifest").await;
        self.infer.create(&file.name, &digest).await?;
        lines.say("success").await;
        Ok(())
    }
}

/// One blob's way.
struct Way<'a, 'b> {
    session: &'a mut Session<'b>,
    infer: &'a Infer,
    lines: &'a Lines,
    uri: &'a Uri,
}

impl Way<'_, '_> {
    /// Brings a blob of a registry.
    async fn blob(&mut self, layer: &Layer) -> Result<(), Error> {
        let mut tries = Tries::default();
        loop {
            let begin = match self.infer.held(&layer.digest).await? {
                Held::Whole => {
                    let (digest, size) = (&layer.digest, layer.size);
                    let mut progress = Progress::new(self.lines, "pulling", digest, Some(size), 0);
                    progress.whole().await;
                    return Ok(());
                }
                // More than there is: what is here is of no use.
                Held::Part(here) if here >= layer.size => 0,
                Held::Part(here) => here,
            };
            match self.rest(layer, begin).await {
                Ok(()) => {}
                Err(error) if error.may_pass() => tries.failed(begin, error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn rest(&mut self, layer: &Layer, begin: u64) -> Result<(), Error> {
        let answer = self
            .session
            .get(Method::GET, self.uri, &range(begin))
            .await?;
        let answer = answer.success().await?;
        let offset = offset(&answer, begin)?;
        let length = layer.size.saturating_sub(offset);
        if answer.length().is_some_and(|found| found != length) {
            let found = answer.length().unwrap_or_default();
            return Err(Error::Answer {
                host: answer.host,
                problem: format!("{found} bytes of {}, wanted: {length}", layer.digest),
            });
        }
        let digest = &layer.digest;
        let mut progress = Progress::new(self.lines, "pulling", digest, Some(layer.size), offset);
        progress.tell().await;
        let (body, fate) = passed(answer, Some(length), progress);
        let upload = Upload {
            digest,
            labelled: false,
            offset,
            length: Some(length),
            body,
        };
        let stored = self.infer.upload(upload).await;
        stored.map(drop).map_err(|error| fate.of(error))
    }

    /// Brings a file, whose digest may not be known before it is here; returns it.
    async fn file(&mut self, digest: Option<&str>) -> Result<String, Error> {
        let mut tries = Tries::default();
        loop {
            let mut begin = 0;
            match self.try_file(digest, &mut begin).await {
                Ok(digest) => return Ok(digest),
                Err(error) if error.may_pass() => tries.failed(begin, error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_file(&mut self, digest: Option<&str>, begin: &mut u64) -> Result<String, Error> {
        let answer = self.session.get(Method::GET, self.uri, &range(0)).await?;
        let mut answer = answer.success().await?;
        // Which file it is, of all that were ever at this address.
        let version = version(&answer);
        let label = match (digest, &version) {
            (Some(digest), _) => digest.to_owned(),
            (None, version) => {
                let text = format!("{} {version:?} {:?}", self.uri, answer.length());
                let hash = sha2::Sha256::digest(text.as_bytes());
                let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("sha256:{hex}")
            }
        };
        let total = answer.length();
        let here = match self.infer.held(&label).await? {
            Held::Whole => return Ok(label),
            // What is not known to be the same is not gone on with.
            Held::Part(here) if digest.is_some() || version.is_some() => here,
            Held::Part(_) => 0,
        };
        let mut offset = 0;
        if here > 0 && total.is_none_or(|total| here < total) {
            let more = self
                .session
                .get(Method::GET, self.uri, &range(here))
                .await?;
            let more = more.success().await?;
            offset = self::offset(&more, here)?;
            if offset == here && self::version(&more) != version {
                return Err(Error::Broken {
                    host: more.host,
                    reason: "the file has changed meanwhile".to_owned(),
                });
            }
            answer = more;
        }
        *begin = offset;
        let length = answer.length();
        let mut progress = Progress::new(self.lines, "pulling", &label, total, offset);
        progress.tell().await;
        let (body, fate) = passed(answer, length, progress);
        let upload = Upload {
            digest: &label,
            labelled: digest.is_none(),
            offset,
            length,
            body,
        };
        let stored = self.infer.upload(upload).await;
        let found = stored.map_err(|error| fate.of(error))?;
        Ok(found.unwrap_or(label))
    }
}

/// What tells one version of a file from another.
fn version(answer: &Fetched) -> Option<String> {
    let tag = answer.header(ETAG).or_else(|| answer.header(LAST_MODIFIED));
    tag.map(str::to_owned)
}

fn range(begin: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if begin > 0
        && let Ok(value) = HeaderValue::from_str(&format!("bytes={begin}-"))
    {
        headers.insert(RANGE, value);
    }
    headers
}

/// Where an answer begins: where it was asked to, or at the beginning.
fn offset(answer: &Fetched, asked: u64) -> Result<u64, Error> {
    if answer.parts.status != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let text = answer.header(CONTENT_RANGE).unwrap_or_default();
    let begin = text
        .strip_prefix("bytes ")
        .and_then(|text| text.split_once('-'));
    match begin.and_then(|(begin, _)| begin.parse::<u64>().ok()) {
        Some(begin) if begin == asked => Ok(begin),
        _ => Err(Error::Answer {
            host: answer.host.clone(),
            problem: format!("the range {text:?}, wanted: from byte {asked} on"),
        }),
    }
}

/// Tries that brought nothing.
#[derive(Debug, Default)]
struct Tries {
    count: u32,
    furthest: u64,
}

impl Tries {
    /// Waits before the next, or gives up. `begin` is where the one that failed began.
    async fn failed(&mut self, begin: u64, error: Error) -> Result<(), Error> {
        if begin > self.furthest {
            self.count = 0;
            self.furthest = begin;
        }
        self.count += 1;
        if self.count >= TRIES {
            return Err(error);
        }
        tracing::info!("a download broke off and goes on: {error}");
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(self.count - 1)).await;
        Ok(())
    }
}
