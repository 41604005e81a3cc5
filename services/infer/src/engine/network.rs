//! What computes: a decoder or an encoder.

use crate::kernels::Keep;
use crate::library::Opened;
use crate::model::{Decoder, Encoder, EncoderConfig, Error, Pooling};

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

    /// Bytes of keys and values of so many tokens. An encoder keeps none.
    pub(super) fn cache_bytes(&self, keep: Keep, tokens: usize) -> u64 {
        match self {
            Self::Decoder(decoder, _) => decoder.config().cache_bytes(keep, tokens),
            Self::Encoder(_) => 0,
        }
    }
}
