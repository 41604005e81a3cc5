//! The types in which a tensor's numbers are stored.

use candle_core::quantized::GgmlDType;

/// A tensor's storage type, of those that the engine computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper 16 bits of 32-bit floats.
    Bf16,
    /// 4 bits in blocks of 32 with one scale.
    Q4_0,
    /// 4 bits in blocks of 32 with one scale and minimum.
    Q4_1,
    /// 5 bits in blocks of 32 with one scale.
    Q5_0,
    /// 5 bits in blocks of 32 with one scale and minimum.
    Q5_1,
    /// 8 bits in blocks of 32 with one scale.
    Q8_0,
    /// 2 bits in blocks of 256 with 16 scales and minima.
    Q2K,
    /// 3 bits in blocks of 256 with 16 scales.
    Q3K,
    /// 4 bits in blocks of 256 with 8 scales and minima.
    Q4K,
    /// 5 bits in blocks of 256 with 8 scales and minima.
    Q5K,
    /// 6 bits in blocks of 256 with 16 scales.
    Q6K,
}

/// All types of ggml by number, so that a message can name one that is not supported.
const NAMES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];

impl Kind {
    /// The types' names, for messages.
    pub const ALLOWED: &'static str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, \
        Q5_K, Q6_K";

    /// The type of a number in the file, or the name of the one that is not supported.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        match number {
            0 => Ok(Self::F32),
            1 => Ok(Self::F16),
            2 => Ok(Self::Q4_0),
            3 => Ok(Self::Q4_1),
            6 => Ok(Self::Q5_0),
            7 => Ok(Self::Q5_1),
            8 => Ok(Self::Q8_0),
            10 => Ok(Self::Q2K),
            11 => Ok(Self::Q3K),
            12 => Ok(Self::Q4K),
            13 => Ok(Self::Q5K),
            14 => Ok(Self::Q6K),
            30 => Ok(Self::Bf16),
            _ => Err(match NAMES.get(number as usize) {
                Some(name) => format!("{name} (number {number})"),
                None => format!("number {number}"),
            }),
        }
    }

    /// The name as users know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Numbers in one block; a row is made of whole blocks.
    #[must_use]
    pub const fn block_columns(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of so many columns, which are whole blocks.
    #[must_use]
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_columns() * self.block_bytes()
    }

    /// The same type in candle's terms.
    #[must_use]
    pub fn candle(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q2K => GgmlDType::Q2K,
            Self::Q3K => GgmlDType::Q3K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_agree_with_candle() {
        for kind in (0..40).filter_map(|number| Kind::from_number(number).ok()) {
            assert_eq!(kind.block_columns(), kind.candle().block_size(), "{kind:?}");
            assert_eq!(kind.block_bytes(), kind.candle().type_size(), "{kind:?}");
            assert!(Kind::ALLOWED.split(", ").any(|name| name == kind.name()));
        }
    }

    #[test]
    fn an_unsupported_type_is_named() {
        assert_eq!(Kind::from_number(16), Err("IQ2_XXS (number 16)".to_owned()));
        assert_eq!(Kind::from_number(4711), Err("number 4711".to_owned()));
    }
}
