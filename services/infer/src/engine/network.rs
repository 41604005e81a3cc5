//! What computes: a decoder or an encoder.

use super::{pace, vectors};
use crate::kernels::Keep;
use crate::library::Opened;
use crate::model::{Decoder, Encoder, EncoderConfig, Error, Pooling, Tensors};

/// A model's weights and what is done with them.
pub(super) enum Network {
    /// Answers; what its states say together is a text's vector.
    Decoder(Box<Decoder>, Pooling),
    /// Makes vectors only.
    Encoder(Box<Encoder>),
}

impl Network {
    /// Finds the weights.
    pub(super) fn load(opened: &Opened, vocabulary: usize) -> Result<Self, Error> {
        let metadata = opened.metadata();
        let architecture = metadata.text("general.architecture")?.unwrap_or_default();
        if EncoderConfig::knows(architecture) {
            let config = EncoderConfig::read(metadata)?;
            let encoder = Encoder::load(config, vocabulary, opened)?;
            return Ok(Self::Encoder(Box::new(encoder)));
        }
        let decoder = Decoder::load(opened.decoder()?, vocabulary, opened)?;
        let pooling = Pooling::read(metadata, architecture)?.unwrap_or(Pooling::Mean);
        Ok(Self::Decoder(Box::new(decoder), pooling))
    }

    /// Bytes that a model will take with `context` tokens, as far as its files' headers say it. Embeddings
    /// that nothing is multiplied with stay in the file.
    pub(super) fn needs(opened: &Opened, keep: Keep, context: usize) -> Result<u64, Error> {
        let tensors = opened.tensors();
        let all: u64 = tensors.iter().map(|(_, _, _, bytes)| bytes).sum();
        let architecture = opened.metadata().text("general.architecture")?;
        let encodes = EncoderConfig::knows(architecture.unwrap_or_default());
        let embedding = match opened.find("token_embd.weight") {
            Some(stored) if encodes || opened.has("output.weight") => match stored.shape[..] {
                [rows, columns] => (rows * stored.format.row_bytes(columns)) as u64,
                _ => 0,
            },
            _ => 0,
        };
        let cache = match encodes {
            true => 0,
            false => {
                let config = opened.decoder()?;
                config.cache_bytes(keep, context.min(config.context))
            }
        };
        Ok(all.saturating_sub(embedding) + cache)
    }

    /// Bytes of the numbers that a pass takes: an encoder reads whole texts of up to `context` tokens.
    pub(super) fn pass_bytes(opened: &Opened, context: usize) -> Result<u64, Error> {
        let metadata = opened.metadata();
        let architecture = metadata.text("general.architecture")?;
        let (tokens, numbers) = if EncoderConfig::knows(architecture.unwrap_or_default()) {
            let config = EncoderConfig::read(metadata)?;
            let tokens = vectors::PASS_TOKENS + context.min(config.context);
            (tokens, 8 * config.embedding + 2 * config.feed_forward)
        } else {
            let config = opened.decoder()?;
            let heads = 2 * config.heads * config.head_width + 2 * config.kv_width();
            let numbers = 3 * config.embedding + heads + 2 * config.feed_forward;
            (*pace::ALONE.1.end(), numbers)
        };
        // Floats, and once the largest of them as bytes with their scales.
        Ok((tokens * numbers * 5) as u64)
    }

    /// The decoder, if it is one.
    pub(super) fn decoder(&self) -> Option<&Decoder> {
        match self {
            Self::Decoder(decoder, _) => Some(decoder),
            Self::Encoder(_) => None,
        }
    }

    /// The longest text in tokens.
    pub(super) fn context(&self) -> usize {
        match self {
            Self::Decoder(decoder, _) => decoder.config().context,
            Self::Encoder(encoder) => encoder.config().context,
        }
    }

    /// Bytes of weights once they are used.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Decoder(decoder, _) => decoder.bytes(),
            Self::Encoder(encoder) => encoder.bytes(),
        }
    }

    /// Of these, the bytes that are in memory.
    pub(super) fn resident(&self) -> u64 {
        match self {
            Self::Decoder(decoder, _) => decoder.resident(),
            Self::Encoder(encoder) => encoder.resident(),
        }
    }

    /// Bytes of keys and values of so many tokens. An encoder keeps none.
    pub(super) fn cache_bytes(&self, keep: Keep, tokens: usize) -> u64 {
        match self {
            Self::Decoder(decoder, _) => decoder.config().cache_bytes(keep, tokens),
            Self::Encoder(_) => 0,
        }
    }
}
