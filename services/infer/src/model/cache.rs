//! The keys and values of the tokens that a sequence has seen, in pages.
//!
//! A page holds a few dozen tokens of all layers. Sequences that begin alike share their first
//! pages; only the last one is written to, so it is always its sequence's own.

use std::io;
use std::sync::Arc;

use super::Config;
use crate::kernels::{Keep, PAGE, Zeroed};

/// Keys and values of up to [`PAGE`] tokens in all layers.
#[derive(Debug)]
pub struct Page {
    words: Zeroed<u16>,
}

/// What attention remembers of one sequence.
#[derive(Debug, Clone)]
pub struct Cache {
    pages: Vec<Arc<Page>>,
    tokens: usize,
    limit: usize,
    layers: usize,
    keep: Keep,
    page_words: usize,
}

impl Cache {
    /// An empty cache that will hold at most `limit` tokens.
    #[must_use]
    pub fn new(config: &Config, keep: Keep, limit: usize) -> Self {
        Self {
            pages: Vec::new(),
            tokens: 0,
            limit,
            layers: config.layers,
            keep,
            page_words: 2 * config.kv_heads * keep.head_words(config.head_width),
        }
    }

    /// A cache that holds nothing, for who computes without one.
    #[must_use]
    pub fn none() -> Self {
        Self {
            pages: Vec::new(),
            tokens: 0,
            limit: 0,
            layers: 0,
            keep: Keep::Halves,
            page_words: 0,
        }
    }

    /// How it keeps keys and values.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that the cache may still take.
    #[must_use]
    pub fn left(&self) -> usize {
        self.limit - self.tokens
    }

    /// The same sequence, with another limit, cut after its first `tokens` tokens. Whole pages are
    /// shared.
    #[must_use]
    pub fn beginning(&self, tokens: usize, limit: usize) -> Self {
        let mut copy = self.clone();
        copy.limit = limit;
        copy.cut(tokens.min(limit));
        copy
    }

    /// Forgets all but the first `tokens` tokens.
    pub fn cut(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
        self.pages.truncate(self.tokens.div_ceil(PAGE));
    }

    /// Bytes that it takes, shared pages included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.layers * self.page_words * size_of::<u16>()
    }

    /// Of these, the bytes that nobody shares: what its end sets free.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        let own = self
            .pages
            .iter()
            .filter(|page| Arc::strong_count(page) == 1);
        own.count() * self.layers * self.page_words * size_of::<u16>()
    }

    /// Makes room for `count` more tokens, in pages of its own.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(super) fn reserve(&mut self, count: usize) -> io::Result<()> {
        let words = self.layers * self.page_words;
        if let Some(last) = self.pages.last_mut()
            && !self.tokens.is_multiple_of(PAGE)
            && Arc::get_mut(last).is_none()
        {
            // Another sequence has it, too.
            let mut copy = Zeroed::new(words)?;
            copy.copy_from_slice(&last.words);
            *last = Arc::new(Page { words: copy });
        }
        let pages = (self.tokens + count).div_ceil(PAGE);
        while self.pages.len() < pages {
            let words = Zeroed::new(words)?;
            self.pages.push(Arc::new(Page { words }));
        }
        Ok(())
    }

    /// Counts `count` tokens as seen, after every layer has put them.
    pub(super) fn advance(&mut self, count: usize) {
        self.tokens += count;
    }

    /// A layer's part of the page of a token to come, and the token's place in it.
    pub(super) fn page_mut(&mut self, layer: usize, token: usize) -> (&mut [u16], usize) {
        let page = Arc::get_mut(&mut self.pages[token / PAGE])
            .expect("pages that are written to were made this sequence's own by `reserve`");
        let part = &mut page.words[layer * self.page_words..][..self.page_words];
        (part, token % PAGE)
    }

    /// A layer's parts of all pages.
    pub(super) fn pages(&self, layer: usize) -> Vec<&[u16]> {
        self.pages
            .iter()
            .map(|page| &page.words[layer * self.page_words..][..self.page_words])
            .collect()
    }
}
