//! A model in memory: its weights, its tokenizer and its template.

use std::sync::{Arc, OnceLock};

use super::network::Network;
use super::pace::Pace;
use super::{Failure, Refusal};
use crate::constrain::{Piece, Pieces};
use crate::gguf;
use crate::kernels::Keep;
use crate::library::Model;
use crate::template::{Template, describe};
use crate::tokenizer::Tokenizer;

/// What the process takes beside weights, keys and values: the code itself, vocabularies, requests, and
/// the numbers of a pass as long as they are no more than [`PASS_BYTES`].
const WORKING_BYTES: u64 = 32 * 1024 * 1024;
/// Of these, what is for the numbers of a pass.
const PASS_BYTES: u64 = 8 * 1024 * 1024;

/// Everything that a generation needs.
pub struct Loaded {
    model: Model,
    pub(super) network: Network,
    pub(super) tokenizer: Tokenizer,
    pub(super) template: Option<Template>,
    /// How its caches keep keys and values.
    pub(super) keep: Keep,
    /// The most bytes of a text that one token can stand for.
    pub(super) longest: Option<usize>,
    /// Bytes beside weights, keys and values.
    working: u64,
    pub(super) pace: Pace,
    pieces: OnceLock<Arc<Pieces>>,
}

impl Loaded {
    /// Loads a model, whose caches keep keys and values as `keep` says. Before it takes memory,
    /// `make_room` hears how many bytes it will have with `context` tokens.
    ///
    /// # Errors
    /// When the file is damaged or foreign, or there is no room.
    pub fn load<E: From<Failure>>(
        model: &Model,
        keep: Keep,
        context: usize,
        make_room: impl FnOnce(u64) -> Result<(), E>,
    ) -> Result<Self, E> {
        let of_file = |error: &dyn std::error::Error| {
            let failure = Failure::internal(error);
            Failure {
                text: format!("model file {}: {}", model.file_name(), failure.text),
                ..failure
            }
        };
        let opened = model.open().map_err(|error| Failure::internal(&error))?;
        let needed = Network::needs(&opened, keep, context).map_err(|error| of_file(&error))?;
        let pass = Network::pass_bytes(&opened, context).map_err(|error| of_file(&error))?;
        let working = WORKING_BYTES + pass.saturating_sub(PASS_BYTES);
        make_room(needed + working)?;
        let tokenizer = opened.tokenizer().map_err(|error| of_file(&error))?;
        let template = read_template(model, opened.metadata(), &tokenizer)
            .map_err(|text| format!("model file {}: {text}", model.file_name()))
            .map_err(|text| Failure::new(Refusal::Internal, text))?;
        let network = Network::load(&opened, tokenizer.vocabulary().len())
            .map_err(|error| of_file(&error))?;
        Ok(Self {
            model: model.clone(),
            network,
            longest: tokenizer.longest(),
            tokenizer,
            template,
            keep,
            working,
            pace: Pace::default(),
            pieces: OnceLock::new(),
        })
    }

    /// Which file it is.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The context that a request for `wanted` tokens gets: the model has its own limit.
    #[must_use]
    pub fn context(&self, wanted: usize) -> usize {
        wanted.min(self.network.context())
    }

    /// Memory that it takes with that context, in bytes.
    #[must_use]
    pub fn bytes(&self, context: usize) -> u64 {
        let cache = self.network.cache_bytes(self.keep, self.context(context));
        self.network.bytes() + cache
    }

    /// Its tokens for constrained answers; made when the first of these comes.
    pub(super) fn pieces(&self) -> Arc<Pieces> {
        let make = || Arc::new(pieces(&self.tokenizer));
        self.pieces.get_or_init(make).clone()
    }

    /// Bytes of weights that are in memory.
    pub(super) fn resident(&self) -> u64 {
        self.network.resident()
    }

    /// Bytes of weights that will be, once they are used.
    pub(super) fn owed(&self) -> u64 {
        self.network.bytes() - self.network.resident()
    }

    /// Bytes that one more answer of that context takes.
    pub(super) fn answer_bytes(&self, context: usize) -> u64 {
        let cache = self.network.cache_bytes(self.keep, self.context(context));
        cache + self.working
    }
}

fn pieces(tokenizer: &Tokenizer) -> Pieces {
    let vocabulary = tokenizer.vocabulary();
    Pieces::new((0..vocabulary.len() as u32).map(|token| {
        let bytes = tokenizer.bytes(token);
        match vocabulary.entry(token) {
            _ if vocabulary.ends(token) => Piece::End,
            _ if !bytes.is_empty() => Piece::Text(bytes),
            Some(entry) if !entry.text.is_empty() => Piece::Mark(entry.text.clone().into()),
            _ => Piece::Unused,
        }
    }))
}

fn read_template(
    model: &Model,
    metadata: &gguf::Metadata,
    tokenizer: &Tokenizer,
) -> Result<Option<Template>, String> {
    let key = "tokenizer.chat_template";
    let own = metadata.text(key).map_err(|error| error.to_string())?;
    let Some(source) = model.made.template.as_deref().or(own) else {
        return Ok(None);
    };
    Template::compile(source, tokenizer.vocabulary().marks())
        .map(Some)
        .map_err(|error| {
            format!(
                "the model's chat template is not valid: {}",
                describe(&error)
            )
        })
}
