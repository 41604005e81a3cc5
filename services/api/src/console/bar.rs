//! A part of a whole, in words and as a bar.

use super::show;

/// Width of the bars, in units of their drawing.
const WIDTH: u64 = 100;
/// From this share on, in percent, little is left.
const TIGHT: u64 = 90;

/// A part of a whole.
pub struct Bar {
    /// `12 MiB of 64 MiB`
    pub text: String,
    /// 0 to [`WIDTH`]; nothing to draw when there is no limit.
    pub filled: Option<u64>,
    /// Little is left.
    pub tight: bool,
}

impl Bar {
    /// `used` bytes of `limit`, or of as many as there are when the limit is 0.
    pub fn new(used: u64, limit: u64) -> Self {
        if limit == 0 {
            return Bar {
                text: show::bytes(used),
                filled: None,
                tight: false,
            };
        }
        let filled = u64::try_from(u128::from(used) * u128::from(WIDTH) / u128::from(limit))
            .unwrap_or(WIDTH)
            .min(WIDTH);
        Bar {
            text: format!("{} of {}", show::bytes(used), show::bytes(limit)),
            filled: Some(filled),
            tight: filled >= TIGHT,
        }
    }
}
