//! One answer under a grammar: which tokens may come, and what came.

use std::collections::HashMap;
use std::sync::Arc;

use super::grammar::Grammar;
use super::pieces::{Piece, Pieces, Tree};
use super::stack::{Head, Run, Stacks, is_done};

/// Masks kept: of 19 KB each for a vocabulary of 150,000.
const MAX_MASKS: usize = 128;

/// Keeps one answer within a grammar.
#[derive(Clone)]
pub struct Constraint {
    grammar: Arc<Grammar>,
    pieces: Arc<Pieces>,
    stacks: Stacks,
    heads: Vec<Head>,
    masks: HashMap<Vec<Head>, Arc<[u64]>>,
    /// Heads after each byte of the token that is looked at; kept for their memory.
    levels: Vec<Vec<Head>>,
}

impl Constraint {
    /// At the beginning of an answer.
    #[must_use]
    pub fn new(grammar: Arc<Grammar>, pieces: Arc<Pieces>) -> Self {
        let mut stacks = Stacks::new();
        let heads = Run {
            grammar: &grammar,
            stacks: &mut stacks,
        }
        .start();
        Self {
            grammar,
            pieces,
            stacks,
            heads,
            masks: HashMap::new(),
            levels: Vec::new(),
        }
    }

    /// Sets the logits of all tokens that may not come to minus infinity. False when none is left,
    /// which can only be when the vocabulary lacks bytes: then the answer has to end.
    pub fn mask(&mut self, logits: &mut [f32]) -> bool {
        let allowed = self.allowed();
        let mut any = false;
        for (place, logits) in logits.chunks_mut(64).enumerate() {
            let word = allowed.get(place).copied().unwrap_or(0);
            any |= word != 0;
            match word {
                u64::MAX => {}
                0 => logits.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
        any
    }

    /// Goes on after a token. False, and nothing has changed, when it may not come.
    pub fn accept(&mut self, token: u32) -> bool {
        let pieces = self.pieces.clone();
        let mut run = Run {
            grammar: &self.grammar,
            stacks: &mut self.stacks,
        };
        let bytes = match pieces.piece(token) {
            Piece::End => return self.grammar.may_end(&self.heads),
            Piece::Unused => return false,
            Piece::Mark(_) if !takes_marks(&self.grammar, &self.heads) => return false,
            Piece::Text(bytes) | Piece::Mark(bytes) => bytes,
        };
        let mut heads = self.heads.clone();
        let mut next = Vec::new();
        for &byte in bytes {
            run.step(&heads, byte, &mut next);
            std::mem::swap(&mut heads, &mut next);
            if heads.is_empty() {
                return false;
            }
        }
        self.heads = heads;
        true
    }

    /// Whether the answer is complete: only a token that ends it may come.
    #[must_use]
    pub fn finished(&self) -> bool {
        is_done(&self.heads)
    }

    /// Whether the answer may end here.
    #[must_use]
    pub fn may_end(&self) -> bool {
        self.grammar.may_end(&self.heads)
    }

    /// The bytes of a shortest way to complete the answer: none when it may end here, None when
    /// there are more than 64 KiB.
    #[must_use]
    pub fn close(&mut self) -> Option<Vec<u8>> {
        let heads = self.heads.clone();
        self.run().close(&heads)
    }

    fn run(&mut self) -> Run<'_> {
        Run {
            grammar: &self.grammar,
            stacks: &mut self.stacks,
        }
    }

    /// A bit for each token.
    fn allowed(&mut self) -> Arc<[u64]> {
        if self.stacks.many() {
            self.masks.clear();
            let mut heads = std::mem::take(&mut self.heads);
            self.run().compact(&mut heads);
            self.heads = heads;
        }
        if let Some(mask) = self.masks.get(&self.heads) {
            return mask.clone();
        }
        let pieces = self.pieces.clone();
        let mut allowed = vec![0_u64; pieces.len().div_ceil(64)];
        let plain = self.grammar.plain(&self.heads);
        match plain {
            // In a text most of a vocabulary is allowed, and that is known beforehand.
            Some(most) => {
                pieces.allow_plain(most, &mut allowed);
                self.walk(&pieces.special, &mut allowed);
            }
            None => self.walk(&pieces.all, &mut allowed),
        }
        for &mark in &pieces.marks {
            let heads = self.heads.clone();
            if self.accept(mark) {
                allow(mark, &mut allowed);
            }
            self.heads = heads;
        }
        if self.may_end() {
            pieces.ends.iter().for_each(|&end| allow(end, &mut allowed));
        }
        let mask: Arc<[u64]> = allowed.into();
        if self.masks.len() >= MAX_MASKS {
            self.masks.clear();
        }
        self.masks.insert(self.heads.clone(), mask.clone());
        mask
    }

    /// Allows all tokens of a tree that can be read from here.
    fn walk(&mut self, tree: &Tree, allowed: &mut [u64]) {
        let mut levels = std::mem::take(&mut self.levels);
        if levels.len() < 2 {
            levels.resize_with(2, Vec::new);
        }
        levels[0].clone_from(&self.heads);
        let mut run = Run {
            grammar: &self.grammar,
            stacks: &mut self.stacks,
        };
        let mut place = 0;
        while let Some(node) = tree.nodes.get(place) {
            let depth = node.depth as usize;
            if levels.len() < depth + 2 {
                levels.push(Vec::new());
            }
            let (before, after) = levels.split_at_mut(depth + 1);
            run.step(&before[depth], node.byte, &mut after[0]);
            if after[0].is_empty() {
                place = node.skip as usize;
                continue;
            }
            for &token in &tree.tokens[node.first as usize..node.last as usize] {
                allow(token, allowed);
            }
            place += 1;
        }
        self.levels = levels;
    }
}

fn allow(token: u32, allowed: &mut [u64]) {
    allowed[token as usize / 64] |= 1 << (token % 64);
}

/// Marks may stand in free text, and where their name is what has to come.
fn takes_marks(grammar: &Grammar, heads: &[Head]) -> bool {
    let takes = |&head: &Head| grammar.is_free(head) || grammar.is_given(head);
    heads.iter().any(takes)
}
