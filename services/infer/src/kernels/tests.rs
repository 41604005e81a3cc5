//! Every instruction set of this machine against plain floats, over seeded shapes.

use std::io::Write;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::packing::unpack_row;
use super::*;
use crate::gguf::Kind;

/// A repeatable stream of numbers from -1 to 1.
pub(super) struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        // The generator of Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

pub(super) const FORMATS: [Kind; 13] = [
    Kind::F32,
    Kind::F16,
    Kind::Bf16,
    Kind::Q4_0,
    Kind::Q4_1,
    Kind::Q5_0,
    Kind::Q5_1,
    Kind::Q8_0,
    Kind::Q2K,
    Kind::Q3K,
    Kind::Q4K,
    Kind::Q5K,
    Kind::Q6K,
];

/// A matrix of these floats in a file of its own, and what its rows are after rounding.
fn stored(format: Kind, floats: Vec<f32>, columns: usize) -> (Matrix, Vec<Vec<f32>>) {
    let rows = floats.len() / columns;
    let tensor = Tensor::from_vec(floats, (rows, columns), &Device::Cpu).unwrap();
    let bytes = QTensor::quantize(&tensor, format.candle())
        .unwrap()
        .data()
        .unwrap()
        .into_owned();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"head").unwrap();
    file.write_all(&bytes).unwrap();
    let rounded = bytes
        .chunks_exact(format.row_bytes(columns))
        .map(|row| {
            let mut floats = vec![0.0; columns];
            unpack_row(format, row, &mut floats);
            floats
        })
        .collect();
    (
        Matrix::new(Arc::new(file), 4, format, rows, columns),
        rounded,
    )
}

#[test]
fn products_are_those_of_floats() {
    let mut numbers = Numbers(1);
    let pool = Pool::new(2).unwrap();
    for format in FORMATS {
        for (rows, columns, tokens) in [
            (8, 256, 1),
            (19, 512, 2),
            (24, 256, 4),
            (40, 768, 7),
            (64, 256, 135),
        ] {
            let (matrix, rounded) = stored(format, numbers.take(rows * columns), columns);
            let activations = numbers.take(tokens * columns);
            for isa in Isa::all() {
                let mut out = vec![f32::NAN; rows * tokens];
                let product = Product {
                    matrix: &matrix,
                    out: &mut out,
                };
                Matrix::multiply(&pool, isa, &activations, &mut [product]).unwrap();
                for (token, out) in out.chunks_exact(rows).enumerate() {
                    let x = &activations[token * columns..][..columns];
                    for (row, found) in rounded.iter().zip(out) {
                        let terms = || row.iter().zip(x).map(|(w, x)| f64::from(w * x));
                        let exact: f64 = terms().sum();
                        // Bytes of activations are off by up to 1/254 of the largest.
                        let error = terms().map(|term| term * term).sum::<f64>().sqrt() / 50.0;
                        assert!(
                            (f64::from(*found) - exact).abs() < error.max(0.02),
                            "{format:?} {isa} {rows}×{columns} {tokens}: {found} {exact}"
                        );
                    }
                }
            }
        }
    }
}

/// A matrix' products with rows of activations.
fn multiplied(pool: &Pool, isa: Isa, matrix: &Matrix, activations: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; activations.len() / matrix.columns() * matrix.rows()];
    let product = Product {
        matrix,
        out: &mut out,
    };
    Matrix::multiply(pool, isa, activations, &mut [product]).unwrap();
    out
}

#[test]
fn instruction_sets_agree_to_the_last_bits() {
    let mut numbers = Numbers(2);
    let pool = Pool::new(1).unwrap();
    for format in FORMATS {
        // A matrix unit's whole tile among the tokens.
        let (rows, columns, tokens) = (24, 1024, 29);
        let (matrix, _) = stored(format, numbers.take(rows * columns), columns);
        let activations = numbers.take(tokens * columns);
        let plain = multiplied(&pool, Isa::all()[0], &matrix, &activations);
        for isa in Isa::all() {
            let found = multiplied(&pool, isa, &matrix, &activations);
            for (found, plain) in found.iter().zip(&plain) {
                assert!(
                    (found - plain).abs() < 1e-4,
                    "{format:?} {isa}: {found} {plain}"
                );
            }
        }
    }
}

#[test]
fn a_token_is_the_same_whatever_comes_with_it() {
    let mut numbers = Numbers(5);
    let pool = Pool::new(2).unwrap();
    for format in FORMATS {
        // Columns that are no whole tiles, rows that are no whole groups, and several panels.
        let shapes = [(24, 512, 151), (43, 576, 37), (19, 896, 29), (8, 2304, 530)];
        let whole = |columns: &usize| columns.is_multiple_of(format.block_columns());
        for (rows, columns, tokens) in shapes.into_iter().filter(|(_, columns, _)| whole(columns)) {
            let (matrix, _) = stored(format, numbers.take(rows * columns), columns);
            let activations = numbers.take(tokens * columns);
            for isa in Isa::all() {
                let together = multiplied(&pool, isa, &matrix, &activations);
                for (token, x) in activations.chunks_exact(columns).enumerate() {
                    assert_eq!(
                        multiplied(&pool, isa, &matrix, x),
                        together[rows * token..rows * (token + 1)],
                        "{format:?} {isa} {rows}×{columns}: token {token}"
                    );
                }
            }
        }
    }
}

#[test]
fn extreme_bytes_do_not_overflow() {
    let pool = Pool::new(1).unwrap();
    for format in FORMATS {
        // Every weight and every activation at its largest, with both signs.
        for sign in [1.0, -1.0] {
            let columns = 512;
            let weights = (0..8 * columns).map(|i| if i % 2 == 0 { 1.0 } else { sign });
            let (matrix, rounded) = stored(format, weights.collect(), columns);
            let activations = vec![-3.0; columns];
            let exact: f32 = rounded[0].iter().map(|weight| weight * -3.0).sum();
            for isa in Isa::all() {
                let mut out = vec![0.0; 8];
                let product = Product {
                    matrix: &matrix,
                    out: &mut out,
                };
                Matrix::multiply(&pool, isa, &activations, &mut [product]).unwrap();
                assert!(
                    (out[0] - exact).abs() < 1.0,
                    "{format:?} {isa}: {} {exact}",
                    out[0]
                );
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_the_result() {
    let pool = Pool::new(1).unwrap();
    for format in FORMATS {
        let (matrix, _) = stored(format, vec![0.5; 8 * 256], 256);
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut activations = vec![1.0; 256];
            activations[77] = wrong;
            for isa in Isa::all() {
                let mut out = vec![0.0; 8];
                let product = Product {
                    matrix: &matrix,
                    out: &mut out,
                };
                Matrix::multiply(&pool, isa, &activations, &mut [product]).unwrap();
                assert!(!out[0].is_finite(), "{format:?} {isa} {wrong}: {}", out[0]);
            }
        }
    }
}

#[test]
fn a_row_is_read_and_a_missing_one_is_an_error() {
    let (matrix, rounded) = stored(Kind::Q4K, Numbers(3).take(10 * 256), 256);
    let mut row = vec![0.0; 256];
    matrix.row(9, &mut row).unwrap();
    assert_eq!(row, rounded[9]);
    assert!(matrix.row(10, &mut row).is_err());
}

#[test]
fn a_file_that_ends_too_early_is_an_error() {
    let file = Arc::new(tempfile::tempfile().unwrap());
    let matrix = Matrix::new(file, 0, Kind::F16, 64, 64);
    let pool = Pool::new(2).unwrap();
    let error = matrix.prepare(&pool).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Attention as its definition says.
fn attended(
    shape: &Attention,
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    token: usize,
    row: usize,
) -> Vec<f64> {
    let (width, kv) = (shape.width, shape.kv_heads * shape.width);
    let group = shape.heads / shape.kv_heads;
    let first = shape
        .window
        .map_or(0, |window| (token + 1).saturating_sub(window));
    (0..shape.heads)
        .flat_map(|head| {
            let query = &queries[(row * shape.heads + head) * width..][..width];
            let at = |token: usize| token * kv + head / group * width;
            let scores: Vec<f64> = (first..=token)
                .map(|other| {
                    let dot = query
                        .iter()
                        .zip(&keys[at(other)..])
                        .map(|(q, k)| f64::from(q * k));
                    let score = dot.take(width).sum::<f64>() * f64::from(shape.scale);
                    shape.cap.map_or(score, |cap| {
                        let cap = f64::from(cap);
                        (score / cap).tanh() * cap
                    })
                })
                .collect();
            let sum: f64 = scores.iter().map(|score| score.exp()).sum();
            (0..width)
                .map(|column| {
                    let shares = scores.iter().map(|score| score.exp() / sum).zip(first..);
                    shares
                        .map(|(share, other)| share * f64::from(values[at(other) + column]))
                        .sum()
                })
                .collect::<Vec<f64>>()
        })
        .collect()
}

#[test]
fn attention_is_what_its_definition_says() {
    let mut numbers = Numbers(4);
    let pool = Pool::new(2).unwrap();
    for (window, cap, keep, both_ways) in [
        (None, None, Keep::Halves, false),
        (None, None, Keep::Floats, false),
        (Some(70), None, Keep::Halves, false),
        (None, Some(2.0), Keep::Halves, false),
        (None, None, Keep::Floats, true),
        (None, None, Keep::Bytes, false),
        (Some(70), Some(2.0), Keep::Bytes, false),
    ] {
        let shape = Attention {
            heads: 6,
            kv_heads: 2,
            // A whole block of scaled bytes, and a part of one.
            width: 48,
            keep,
            scale: 0.25,
            window,
            cap,
            both_ways,
        };
        let kv = shape.kv_heads * shape.width;
        // Two sequences in one batch: one that goes on after 150 tokens, one that begins.
        let lengths = [(150, 9), (0, 70)];
        let sequences: Vec<_> = lengths
            .iter()
            .map(|(seen, new)| {
                (
                    numbers.take((seen + new) * kv),
                    numbers.take((seen + new) * kv),
                )
            })
            .collect();
        let pages: Vec<Vec<Vec<u16>>> = sequences
            .iter()
            .map(|(keys, values)| {
                let tokens = keys.len() / kv;
                let mut pages = vec![vec![0; shape.page_words()]; tokens.div_ceil(PAGE)];
                for token in 0..tokens {
                    let part = token * kv..(token + 1) * kv;
                    let page = &mut pages[token / PAGE];
                    shape.put(page, token % PAGE, &keys[part.clone()], &values[part]);
                }
                pages
            })
            .collect();
        let rows = 79;
        let queries = numbers.take(rows * shape.heads * shape.width);
        let stretches = [
            Stretch {
                pages: pages[0].iter().map(Vec::as_slice).collect(),
                seen: 150,
                rows: 0..9,
            },
            Stretch {
                pages: pages[1].iter().map(Vec::as_slice).collect(),
                seen: 0,
                rows: 9..79,
            },
        ];
        for isa in Isa::all() {
            let mut out = vec![f32::NAN; queries.len()];
            shape.run(&pool, isa, &queries, &stretches, &mut out);
            for (stretch, (keys, values)) in stretches.iter().zip(&sequences) {
                for (index, row) in stretch.rows.clone().enumerate() {
                    let token = stretch.seen + index;
                    let sees = match both_ways {
                        true => keys.len() / kv - 1,
                        false => token,
                    };
                    let exact = attended(&shape, &queries, keys, values, sees, row);
                    let found = &out[row * shape.heads * shape.width..];
                    for (found, exact) in found.iter().zip(exact) {
                        // Of values up to 1: a byte is exact to 1/254 of the largest of its block.
                        let allowed = match keep {
                            Keep::Floats => 1e-5,
                            Keep::Halves => 2e-3,
                            Keep::Bytes => 1e-2,
                        };
                        assert!(
                            (f64::from(*found) - exact).abs() < allowed,
                            "{isa}: {found} {exact}"
                        );
                    }
                }
            }
        }
    }
}
