//! A model's tokens as bytes, arranged so that a grammar meets common beginnings once.

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// It stands for these bytes.
    Text(Vec<u8>),
    /// A mark with a name, such as `<tool_call>`: allowed where exactly this name may stand, and
    /// in free text, but never inside of a value.
    Mark(Vec<u8>),
    /// It ends the answer.
    End,
    /// It is never allowed.
    Unused,
}

/// Longer tokens are never allowed: there are none, but a file may say otherwise.
const MAX_BYTES: usize = 1024;
/// Characters counted apart in tokens that are plain text; longer ones are walked.
const MAX_PLAIN: usize = 64;

/// All tokens of a vocabulary. Made once for a model and shared.
pub struct Pieces {
    pieces: Vec<Piece>,
    pub(super) ends: Vec<u32>,
    pub(super) marks: Vec<u32>,
    pub(super) all: Tree,
    /// Those that are not plain text.
    pub(super) special: Tree,
    /// For each count of characters (from 1) the tokens of that many which need no escape in JSON.
    plain: Vec<Vec<u32>>,
    all_plain: Vec<u64>,
}

impl Pieces {
    /// The tokens in their order.
    #[must_use]
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut pieces: Vec<Piece> = pieces.into_iter().collect();
        let (mut ends, mut marks) = (Vec::new(), Vec::new());
        let (mut all, mut special) = (Vec::new(), Vec::new());
        let mut plain = vec![Vec::new(); MAX_PLAIN];
        let mut all_plain = vec![0_u64; pieces.len().div_ceil(64)];
        for piece in &mut pieces {
            if let Piece::Text(bytes) | Piece::Mark(bytes) = piece
                && (bytes.is_empty() || bytes.len() > MAX_BYTES)
            {
                *piece = Piece::Unused;
            }
        }
        for (token, piece) in (0_u32..).zip(&pieces) {
            match piece {
                Piece::End => ends.push(token),
                Piece::Mark(_) => marks.push(token),
                Piece::Unused => {}
                Piece::Text(bytes) => {
                    all.push((bytes.as_slice(), token));
                    match plain_characters(bytes) {
                        Some(count @ 1..=MAX_PLAIN) => {
                            plain[count - 1].push(token);
                            all_plain[token as usize / 64] |= 1 << (token % 64);
                        }
                        _ => special.push((bytes.as_slice(), token)),
                    }
                }
            }
        }
        let (all, special) = (Tree::new(all), Tree::new(special));
        Self {
            ends,
            marks,
            all,
            special,
            plain,
            all_plain,
            pieces,
        }
    }

    /// Count of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// A token.
    #[must_use]
    pub fn piece(&self, token: u32) -> &Piece {
        self.pieces.get(token as usize).unwrap_or(&Piece::Unused)
    }

    /// Allows the plain tokens of at most so many characters.
    pub(super) fn allow_plain(&self, most: u32, allowed: &mut [u64]) {
        if most as usize >= MAX_PLAIN {
            for (word, plain) in allowed.iter_mut().zip(&self.all_plain) {
                *word |= plain;
            }
            return;
        }
        for &token in self.plain.iter().take(most as usize).flatten() {
            allowed[token as usize / 64] |= 1 << (token % 64);
        }
    }
}

/// How many characters there are, when all are whole and none needs an escape in JSON.
fn plain_characters(bytes: &[u8]) -> Option<usize> {
    let text = str::from_utf8(bytes).ok()?;
    let plain = |c: char| c >= ' ' && c != '"' && c != '\\';
    text.chars().all(plain).then(|| text.chars().count())
}

/// Tokens by their bytes, in the order in which a walk that goes deep first meets them.
pub(super) struct Tree {
    pub(super) nodes: Vec<TreeNode>,
    /// Tokens by nodes.
    pub(super) tokens: Vec<u32>,
}

/// A byte that continues the node before it whose depth is one less.
pub(super) struct TreeNode {
    pub(super) byte: u8,
    /// From 0.
    pub(super) depth: u16,
    /// The next node that is not below this one.
    pub(super) skip: u32,
    /// The tokens that end here, in [`Tree::tokens`].
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Tree {
    fn new(mut texts: Vec<(&[u8], u32)>) -> Self {
        texts.sort_unstable();
        let mut nodes: Vec<TreeNode> = Vec::new();
        let mut tokens = Vec::with_capacity(texts.len());
        let mut path: Vec<usize> = Vec::new();
        let mut before: &[u8] = &[];
        for (text, token) in texts {
            let same = text.iter().zip(before).take_while(|(a, b)| a == b).count();
            for closed in path.drain(same..) {
                nodes[closed].skip = nodes.len() as u32;
            }
            for (depth, &byte) in text.iter().enumerate().skip(same) {
                path.push(nodes.len());
                let here = tokens.len() as u32;
                nodes.push(TreeNode {
                    byte,
                    depth: depth as u16,
                    skip: 0,
                    first: here,
                    last: here,
                });
            }
            // Sorted: equal texts follow each other, and longer ones come after.
            if let Some(&node) = path.last() {
                tokens.push(token);
                nodes[node].last = tokens.len() as u32;
            }
            before = text;
        }
        for closed in path {
            nodes[closed].skip = nodes.len() as u32;
        }
        Self { nodes, tokens }
    }
}
