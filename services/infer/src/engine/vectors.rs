//! What texts mean, as vectors: some of their tokens in each pass.

use super::network::Network;
use super::{Embedding, Failure, Loaded, Refusal};
use crate::kernels::{Keep, Pool};
use crate::model::pooling::Pooled;
use crate::model::{Cache, Part, Wanted};

/// Tokens of one pass. An encoder takes whole texts: as many as begin before it.
pub(super) const PASS_TOKENS: usize = 256;

/// Tokens that are looked at beyond those that are taken, as the last ones may depend on what follows.
const SPARE: usize = 64;

/// Texts whose vectors are being made.
pub(super) struct Vectors {
    /// The texts' tokens, of which none is empty.
    texts: Vec<Vec<u32>>,
    /// Texts that are done.
    done: usize,
    /// What a decoder has read of the next one.
    begun: Option<(Cache, Pooled)>,
    dimensions: Option<usize>,
}

impl Vectors {
    /// Cuts the texts into tokens, and these to `context`.
    pub(super) fn new(
        embedding: &Embedding,
        loaded: &Loaded,
        context: usize,
    ) -> Result<Self, Failure> {
        let request = |text: String| Failure::new(Refusal::Request, text);
        let after = loaded.tokenizer.after();
        let mut texts = Vec::with_capacity(embedding.texts.len());
        for (place, text) in embedding.texts.iter().enumerate() {
            // Megabytes would hold up the others for seconds, only to be cut.
            let most = loaded.longest.map(|longest| (context + SPARE) * longest);
            let text = match most.filter(|&most| most < text.len()) {
                None => text,
                Some(most) if embedding.truncate => &text[..text.floor_char_boundary(most)],
                Some(_) => {
                    let text = format!(
                        "input {place} has more than {context} tokens, allowed: at most {context} (the model's \
                         own limit is {}); with truncate it is cut",
                        loaded.network.context(),
                    );
                    return Err(Failure::new(Refusal::TooLong, text));
                }
            };
            let tokens = loaded.tokenizer.encode(text);
            let mut tokens = tokens.map_err(|error| request(error.to_string()))?;
            if tokens.is_empty() {
                return Err(request(format!("input {place} has no tokens")));
            }
            if tokens.len() > context {
                if !embedding.truncate {
                    let text = format!(
                        "input {place} has {} tokens, allowed: at most {context} (the model's own \
                         limit is {}); with truncate it is cut",
                        tokens.len(),
                        loaded.network.context(),
                    );
                    return Err(Failure::new(Refusal::TooLong, text));
                }
                // What ends every text ends this one, too.
                tokens.truncate(context.saturating_sub(after.len()).max(1));
                let room = context - tokens.len();
                tokens.extend(after.iter().take(room));
            }
            texts.push(tokens);
        }
        Ok(Self {
            texts,
            done: 0,
            begun: None,
            dimensions: embedding.dimensions,
        })
    }

    /// Tokens of all texts.
    pub(super) fn tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }

    /// Whether all are made.
    pub(super) fn finished(&self) -> bool {
        self.done == self.texts.len()
    }

    /// Computes one pass; returns the vectors that are ready with it.
    pub(super) fn step(&mut self, pool: &Pool, loaded: &Loaded) -> Result<Vec<Vec<f32>>, Failure> {
        let internal = |error| Failure::internal(&error);
        let mut budget = PASS_TOKENS;
        let mut ready = Vec::new();
        match &loaded.network {
            Network::Encoder(encoder) => {
                let rest = self.texts[self.done..].iter();
                let now: Vec<&[u32]> = rest
                    .take_while(|text| {
                        let begins = budget > 0;
                        budget = budget.saturating_sub(text.len());
                        begins
                    })
                    .map(Vec::as_slice)
                    .collect();
                self.done += now.len();
                ready = encoder.forward(pool, &now).map_err(internal)?;
            }
            Network::Decoder(decoder, pooling) => {
                while budget > 0 && !self.finished() {
                    let text = &self.texts[self.done];
                    let config = decoder.config();
                    let (mut cache, mut pooled) = self.begun.take().unwrap_or_else(|| {
                        let cache = Cache::new(config, Keep::Halves, text.len());
                        (cache, Pooled::new(*pooling, config.embedding))
                    });
                    let tokens = &text[cache.tokens()..];
                    let tokens = &tokens[..tokens.len().min(budget)];
                    budget -= tokens.len();
                    let part = Part {
                        tokens,
                        cache: &mut cache,
                        wanted: Wanted::All,
                    };
                    let states = decoder.states(pool, &mut [part]).map_err(internal)?;
                    pooled.add(&states);
                    if cache.left() > 0 {
                        self.begun = Some((cache, pooled));
                    } else {
                        ready.push(pooled);
                        self.done += 1;
                    }
                }
            }
        }
        let vectors = ready.into_iter();
        let vectors = vectors.map(|pooled| pooled.finish(self.dimensions).map_err(internal));
        vectors.collect()
    }
}
