//! From the blocks of a GGUF file to groups of eight rows, and back to floats.
//!
//! A group holds the blocks of its eight rows side by side, as large as they were: see `blocks`
//! and `super_blocks` for the layouts. Rows that do not exist are zero.

use half::f16;

use crate::gguf::Kind;

/// Rows of a group.
pub(super) const GROUP: usize = 8;

/// Packs up to eight rows, which lie one after the other in `rows`, into a group.
///
/// # Panics
/// When `rows` is not of whole rows, or `group` is not of eight.
pub(super) fn pack(format: Kind, rows: &[u8], row_bytes: usize, group: &mut [u8]) {
    assert_eq!(group.len(), GROUP * row_bytes, "a group is eight rows");
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        let by_blocks = |group: &mut [u8], pack: fn(&[u8], &mut [u8], usize)| {
            let block_bytes = format.block_bytes();
            let blocks = bytes.chunks_exact(block_bytes);
            for (block, group) in blocks.zip(group.chunks_exact_mut(GROUP * block_bytes)) {
                pack(block, group, row);
            }
        };
        match format {
            Kind::F32 => spread::<4>(bytes, group, row),
            Kind::F16 | Kind::Bf16 => spread::<2>(bytes, group, row),
            Kind::Q8_0 | Kind::Q4_0 => by_blocks(group, pack_q8_0),
            Kind::Q4_1 => by_blocks(group, pack_q4_1),
            Kind::Q5_0 => by_blocks(group, pack_q5_0),
            Kind::Q5_1 => by_blocks(group, pack_q5_1),
            Kind::Q2K => by_blocks(group, pack_q2k),
            Kind::Q3K => by_blocks(group, pack_q3k),
            Kind::Q4K => by_blocks(group, pack_q4k),
            Kind::Q5K => by_blocks(group, pack_q5k),
            Kind::Q6K => by_blocks(group, pack_q6k),
        }
    }
}

/// Puts a row's bytes, `WIDTH` at a time, into its places among eight rows'.
fn spread<const WIDTH: usize>(from: &[u8], to: &mut [u8], row: usize) {
    let (from, _) = from.as_chunks::<WIDTH>();
    let (to, _) = to.as_chunks_mut::<WIDTH>();
    for (from, to) in from.iter().zip(to.chunks_exact_mut(GROUP)) {
        to[row] = *from;
    }
}

/// Four bytes from a place on.
fn word(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[place + byte]))
}

/// The six-bit scale and minimum of a sub-block in the file's order.
fn scale_and_minimum(packed: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        (
            (packed[sub + 4] & 15) | ((packed[sub - 4] >> 6) << 4),
            (packed[sub + 4] >> 4) | ((packed[sub] >> 6) << 4),
        )
    }
}

/// A scale, then the rest: [`Kind::Q4_0`] too.
fn pack_q8_0(block: &[u8], group: &mut [u8], row: usize) {
    spread::<2>(&block[..2], group, row);
    spread::<4>(&block[2..], &mut group[16..], row);
}

fn pack_q4_1(block: &[u8], group: &mut [u8], row: usize) {
    spread::<2>(&block[..2], group, row);
    spread::<4>(&block[4..], &mut group[16..144], row);
    spread::<2>(&block[2..4], &mut group[144..], row);
}

fn pack_q5_0(block: &[u8], group: &mut [u8], row: usize) {
    spread::<2>(&block[..2], group, row);
    spread::<4>(&block[6..], &mut group[16..144], row);
    pack_fifths(word(block, 2), &mut group[144 + 4 * row..][..4]);
}

fn pack_q5_1(block: &[u8], group: &mut [u8], row: usize) {
    spread::<2>(&block[..2], group, row);
    spread::<4>(&block[8..], &mut group[16..144], row);
    pack_fifths(word(block, 4), &mut group[144 + 4 * row..][..4]);
    spread::<2>(&block[2..4], &mut group[176..], row);
}

/// The fifth bits of 32 columns: of each four columns' places one byte.
fn pack_fifths(fifth: u32, to: &mut [u8]) {
    for (place, byte) in to.iter_mut().enumerate() {
        // Every fourth bit from the place on, moved together.
        let bits = fifth >> place & 0x1111_1111;
        let bits = (bits | bits >> 3) & 0x0303_0303;
        let bits = (bits | bits >> 6) & 0x000f_000f;
        *byte = (bits | bits >> 12) as u8;
    }
}

/// Puts a row's eight pairs of six-bit numbers into their places in 96 bytes of eight rows.
fn pack_scales(scales: &mut [u8], row: usize, pair: impl Fn(usize) -> (u8, u8)) {
    for sub in 0..8 {
        let (scale, minimum) = pair(sub);
        scales[sub * GROUP + row] = (scale & 15) | ((minimum & 15) << 4);
        let upper = (scale >> 4) | ((minimum >> 4) << 2);
        let place = &mut scales[64 + (sub % 4) * GROUP + row];
        let shift = if sub < 4 { 0 } else { 4 };
        *place = (*place & !(15 << shift)) | (upper << shift);
    }
}

fn pack_q2k(block: &[u8], group: &mut [u8], row: usize) {
    let (scales, rest) = block.split_at(16);
    let (quants, rest) = rest.split_at(64);
    spread::<2>(&rest[..2], group, row);
    spread::<2>(&rest[2..], &mut group[16..], row);
    spread::<1>(scales, &mut group[32..160], row);
    spread::<4>(quants, &mut group[160..], row);
}

/// The six-bit scale of a sub-block of 16 columns in the file's order.
fn scale_of_16(packed: &[u8], sub: usize) -> u8 {
    let lower = packed[sub % 8] >> (4 * (sub / 8));
    let upper = packed[8 + sub % 4] >> (2 * (sub / 4));
    (lower & 15) | ((upper & 3) << 4)
}

fn pack_q3k(block: &[u8], group: &mut [u8], row: usize) {
    let (thirds, rest) = block.split_at(32);
    let (quants, rest) = rest.split_at(64);
    let (packed, scale) = rest.split_at(12);
    spread::<2>(scale, group, row);
    let scale = |sub| scale_of_16(packed, sub);
    pack_scales(&mut group[16..112], row, |sub| (scale(sub), scale(sub + 8)));
    let parts = group[112..].chunks_exact_mut(192);
    for (part, (quants, to)) in quants.chunks_exact(16).zip(parts).enumerate() {
        let (to, upper) = to.split_at_mut(128);
        spread::<4>(quants, to, row);
        for step in 0..2 {
            let four = |step: usize| {
                let word = word(thirds, 16 * (part % 2) + 4 * step);
                word >> (4 * (part / 2)) & 0x0f0f_0f0f
            };
            let both = four(step) | four(step + 2) << 4;
            upper[32 * step + 4 * row..][..4].copy_from_slice(&both.to_le_bytes());
        }
    }
}

/// The scales and minima of a block of 256 columns, which Q4_K and Q5_K have alike.
fn pack_head(block: &[u8], group: &mut [u8], row: usize) {
    spread::<2>(&block[..2], group, row);
    spread::<2>(&block[2..4], &mut group[16..], row);
    let pair = |sub| scale_and_minimum(&block[4..16], sub);
    pack_scales(&mut group[32..128], row, pair);
}

fn pack_q4k(block: &[u8], group: &mut [u8], row: usize) {
    pack_head(block, group, row);
    spread::<4>(&block[16..], &mut group[128..], row);
}

fn pack_q5k(block: &[u8], group: &mut [u8], row: usize) {
    pack_head(block, group, row);
    let (fifths, quants) = block[16..].split_at(32);
    let pairs = group[128..].chunks_exact_mut(320);
    for (pair, (quants, to)) in quants.chunks_exact(32).zip(pairs).enumerate() {
        let (to, upper) = to.split_at_mut(256);
        spread::<4>(quants, to, row);
        for half in 0..2 {
            let two = |step: usize| {
                let word = word(fifths, 16 * half + 4 * step);
                (word >> (2 * pair) & 0x0303_0303) << (2 * step)
            };
            let all = two(0) | two(1) | two(2) | two(3);
            upper[32 * half + 4 * row..][..4].copy_from_slice(&all.to_le_bytes());
        }
    }
}

/// A six-bit number of a block in the file's order.
fn six_bits(block: &[u8], column: usize) -> u8 {
    // Two halves of 128 columns, each of four runs of 32: the lower bits of runs 0 and 1 are lower
    // halves of bytes, those of runs 2 and 3 upper ones; the upper bits lie in one byte for all.
    let (half, run, place) = (column / 128, column % 128 / 32, column % 32);
    let lower = block[64 * half + 32 * (run % 2) + place] >> (4 * (run / 2));
    let upper = block[128 + 32 * half + place] >> (2 * run);
    (lower & 15) | ((upper & 3) << 4)
}

fn pack_q6k(block: &[u8], group: &mut [u8], row: usize) {
    spread::<2>(&block[208..], group, row);
    spread::<1>(&block[192..208], &mut group[16..], row);
    let to = &mut group[144..];
    pack_six::<0>(block, to, row);
    pack_six::<1>(block, to, row);
    pack_six::<2>(block, to, row);
    pack_six::<3>(block, to, row);
}

/// Four sub-blocks of six-bit numbers, see `super_blocks`. By constants, as shifts by others are slow.
fn pack_six<const SET: usize>(block: &[u8], to: &mut [u8], row: usize) {
    let (half, runs) = (SET / 2, SET % 2 * 2);
    let lower = &block[64 * half..][..64];
    let upper = &block[128 + 32 * half..][..32];
    let to = &mut to[384 * SET..][..384];
    for step in 0..4 {
        // Four columns of the row at a time, which lie together in the file too: see `six_bits`.
        let four = |sub: usize| {
            let (run, place) = (runs + sub / 2, 16 * (sub % 2) + 4 * step);
            let low = word(lower, 32 * (run % 2) + place) >> (4 * (run / 2)) & 0x0f0f_0f0f;
            low | (word(upper, place) >> (2 * run) & 0x0303_0303) << 4
        };
        let shared = four(3);
        let words = [
            four(0) | (shared & 0x3030_3030) << 2,
            four(1) | (shared & 0x0c0c_0c0c) << 4,
            four(2) | (shared & 0x0303_0303) << 6,
        ];
        for (sub, word) in words.into_iter().enumerate() {
            let at = 128 * sub + 32 * step + 4 * row;
            to[at..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// A two-bit number of a block in the file's order.
fn two_bits(quants: &[u8], column: usize) -> u8 {
    let (half, run, place) = (column / 128, column % 128 / 32, column % 32);
    quants[32 * half + place] >> (2 * run) & 3
}

/// The numbers of a block of 32 columns of five bits.
fn unpack_five(fifth: u32, quants: &[u8], number: impl Fn(f32) -> f32, to: &mut [f32]) {
    let bit = |column: usize| ((fifth >> column & 1) << 4) as u8;
    for (place, &byte) in quants.iter().enumerate() {
        to[place] = number(f32::from(byte & 15 | bit(place)));
        to[place + 16] = number(f32::from(byte >> 4 | bit(place + 16)));
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// A row as floats, from the file's blocks.
///
/// # Panics
/// When `row` is not of whole blocks, or `to` not as long as the row.
pub(super) fn unpack_row(format: Kind, row: &[u8], to: &mut [f32]) {
    let columns = format.block_columns();
    assert_eq!(
        row.len() / format.block_bytes() * columns,
        to.len(),
        "a whole row"
    );
    for (block, to) in row
        .chunks_exact(format.block_bytes())
        .zip(to.chunks_exact_mut(columns))
    {
        match format {
            Kind::F32 => to[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Kind::F16 => to[0] = half(block),
            Kind::Bf16 => to[0] = f32::from_le_bytes([0, 0, block[0], block[1]]),
            Kind::Q5_0 => {
                let number = |number| half(block) * (number - 16.0);
                unpack_five(word(block, 2), &block[6..], number, to);
            }
            Kind::Q5_1 => {
                let number = |number| half(block) * number + half(&block[2..]);
                unpack_five(word(block, 4), &block[8..], number, to);
            }
            Kind::Q8_0 => {
                for (to, &byte) in to.iter_mut().zip(&block[2..]) {
                    *to = half(block) * f32::from(byte as i8);
                }
            }
            Kind::Q4_0 => {
                for (place, &byte) in block[2..].iter().enumerate() {
                    to[place] = half(block) * (f32::from(byte & 15) - 8.0);
                    to[place + 16] = half(block) * (f32::from(byte >> 4) - 8.0);
                }
            }
            Kind::Q4_1 => {
                for (place, &byte) in block[4..].iter().enumerate() {
                    let number = |four: u8| half(block) * f32::from(four) + half(&block[2..]);
                    to[place] = number(byte & 15);
                    to[place + 16] = number(byte >> 4);
                }
            }
            Kind::Q2K => {
                for (column, to) in to.iter_mut().enumerate() {
                    let both = block[column / 16];
                    let number = two_bits(&block[16..80], column);
                    *to = half(&block[80..]) * f32::from(both & 15) * f32::from(number)
                        - half(&block[82..]) * f32::from(both >> 4);
                }
            }
            Kind::Q3K => {
                for (column, to) in to.iter_mut().enumerate() {
                    let third = block[column % 32] >> (column / 32) & 1;
                    let number = two_bits(&block[32..96], column) | third << 2;
                    let scale = f32::from(scale_of_16(&block[96..108], column / 16)) - 32.0;
                    *to = half(&block[108..]) * scale * (f32::from(number) - 4.0);
                }
            }
            Kind::Q4K | Kind::Q5K => {
                for (column, to) in to.iter_mut().enumerate() {
                    let (scale, minimum) = scale_and_minimum(&block[4..16], column / 32);
                    let (fifths, quants) = block[16..].split_at(block.len() - 144);
                    let byte = quants[32 * (column / 64) + column % 32];
                    let four = byte >> (column / 32 % 2 * 4) & 15;
                    let fifth = fifths
                        .get(column % 32)
                        .map_or(0, |byte| byte >> (column / 32) & 1);
                    *to = half(block) * f32::from(scale) * f32::from(four | fifth << 4)
                        - half(&block[2..]) * f32::from(minimum);
                }
            }
            Kind::Q6K => {
                for (column, to) in to.iter_mut().enumerate() {
                    let scale = f32::from(block[192 + column / 16] as i8);
                    *to = half(&block[208..]) * scale * (f32::from(six_bits(block, column)) - 32.0);
                }
            }
        }
    }
}

/// Numbers from the file's blocks.
#[must_use]
pub fn unpacked(format: Kind, bytes: &[u8], length: usize) -> Vec<f32> {
    let mut floats = vec![0.0; length];
    unpack_row(format, bytes, &mut floats);
    floats
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{QStorage, QTensor};
    use candle_core::{Device, Tensor};

    use super::super::tests::FORMATS;
    use super::*;

    #[test]
    fn rows_are_what_candle_reads_in_them() {
        for format in FORMATS {
            let kind = format.candle();
            let floats = Tensor::rand(-1.0f32, 1.0, (3, 512), &Device::Cpu).unwrap();
            let quantized = QTensor::quantize(&floats, kind).unwrap();
            let bytes = quantized.data().unwrap().into_owned();
            let storage = QStorage::from_data(bytes.clone().into(), &Device::Cpu, kind).unwrap();
            let expected = QTensor::new(storage, (3, 512)).unwrap();
            let expected = expected.dequantize(&Device::Cpu).unwrap();
            let expected = expected.to_vec2::<f32>().unwrap();
            let row_bytes = format.row_bytes(512);
            for (row, expected) in bytes.chunks_exact(row_bytes).zip(expected) {
                let mut found = vec![0.0; 512];
                unpack_row(format, row, &mut found);
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "{format:?}: {found} {expected}"
                    );
                }
            }
        }
    }
}
