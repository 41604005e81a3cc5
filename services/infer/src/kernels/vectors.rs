//! What is done to rows of activations between the matrix products.

use super::lanes::Lanes;
use super::{Isa, Pool, for_isa};

/// Floats that one thread works through faster than others could be called.
const ALONE: usize = 16 * 1024;

/// Calls `act` for each row's number, on all threads when the rows are worth it.
pub(super) fn rows(pool: &Pool, count: usize, columns: usize, act: &(dyn Fn(usize) + Sync)) {
    if count * columns <= ALONE {
        (0..count).for_each(act);
    } else {
        pool.run(count, act);
    }
}

/// Scales each row of `floats` to a root mean square of one, and by `weights`, into `out`.
///
/// # Panics
/// When the lengths do not fit.
pub fn rms_norm(
    pool: &Pool,
    isa: Isa,
    floats: &[f32],
    weights: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    assert_eq!(floats.len(), out.len(), "as many numbers");
    let columns = weights.len();
    let pieces = super::matrix::Pieces::new(out, columns);
    rows(pool, pieces.len(), columns, &|row| {
        // SAFETY: each row is taken once.
        let out = unsafe { pieces.take(row) };
        let floats = &floats[row * columns..][..columns];
        // SAFETY: the set was found on this machine.
        unsafe {
            for_isa!(isa, norm(floats, weights, epsilon, out): (&[f32], &[f32], f32, &mut [f32]));
        }
    });
}

#[inline(always)]
unsafe fn norm<L: Lanes>(floats: &[f32], weights: &[f32], epsilon: f32, out: &mut [f32]) {
    // SAFETY: eight floats at a time.
    let squares = unsafe {
        let mut sum = L::splat(0.0);
        let eights = floats.chunks_exact(8);
        let rest: f32 = eights.remainder().iter().map(|float| float * float).sum();
        for eight in eights {
            let eight = L::load(eight.as_ptr());
            sum = L::fma(eight, eight, sum);
        }
        L::sum(sum) + rest
    };
    let scale = 1.0 / (squares / floats.len() as f32 + epsilon).sqrt();
    for ((out, float), weight) in out.iter_mut().zip(floats).zip(weights) {
        *out = float * scale * weight;
    }
}

/// Shifts each row of `floats` to a mean of zero and scales it to a deviation of one, in place; then by
/// `weights` and `bias`.
///
/// # Panics
/// When the lengths do not fit.
pub fn layer_norm(
    pool: &Pool,
    isa: Isa,
    floats: &mut [f32],
    weights: &[f32],
    bias: &[f32],
    epsilon: f32,
) {
    assert_eq!(weights.len(), bias.len(), "as many numbers");
    let columns = weights.len();
    assert!(floats.len().is_multiple_of(columns), "whole rows");
    let pieces = super::matrix::Pieces::new(floats, columns);
    rows(pool, pieces.len(), columns, &|row| {
        // SAFETY: each row is taken once.
        let row = unsafe { pieces.take(row) };
        // SAFETY: the set was found on this machine.
        unsafe {
            for_isa!(isa, center(row, weights, bias, epsilon): (&mut [f32], &[f32], &[f32], f32))
        }
    });
}

#[inline(always)]
unsafe fn center<L: Lanes>(row: &mut [f32], weights: &[f32], bias: &[f32], epsilon: f32) {
    let count = row.len() as f32;
    let mean = sum(row, |float| float) / count;
    let variance = sum(row, |float| (float - mean) * (float - mean)) / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((float, weight), bias) in row.iter_mut().zip(weights).zip(bias) {
        *float = (*float - mean) * scale * weight + bias;
    }
}

/// The sum of what `of` makes of each number, in eight sums, so that no number waits for the one before.
#[inline(always)]
fn sum(floats: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; 8];
    let eights = floats.chunks_exact(8);
    let rest: f32 = eights.remainder().iter().map(|&float| of(float)).sum();
    for eight in eights {
        for (sum, &float) in sums.iter_mut().zip(eight) {
            *sum += of(float);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Adds `more` to `floats`.
pub fn add(floats: &mut [f32], more: &[f32]) {
    for (float, more) in floats.iter_mut().zip(more) {
        *float += more;
    }
}

/// So large that no place is left behind the point of what is added to it: the last bits of the sum are the
/// nearest integer, the even one where two are as near.
pub(super) const LARGE: f32 = 12_582_912.0;

/// e^x, within two units in the last place where the result is a normal float.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    // e^x = 2^n · e^r with |r| below half of ln 2; the series after Cephes' expf.
    const LN2_UPPER: f32 = 0.693_359_4;
    const LN2_LOWER: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let large = x * std::f32::consts::LOG2_E + LARGE;
    let n = large - LARGE;
    let r = x - n * LN2_UPPER - n * LN2_LOWER;
    let mut series = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        series = series * r + coefficient;
    }
    let power = f32::from_bits(large.to_bits().wrapping_add(127) << 23);
    (series * r * r + r + 1.0) * power
}

/// gate · sigmoid(gate) · up, into `gate`. Both are rows of `columns`.
pub fn silu_product(pool: &Pool, isa: Isa, gate: &mut [f32], up: &[f32], columns: usize) {
    product(pool, gate, up, columns, &|gate, up| {
        // SAFETY: the set was found on this machine.
        unsafe { for_isa!(isa, silu(gate, up): (&mut [f32], &[f32])) }
    });
}

/// gelu(gate) · up with the tangent's approximation, into `gate`. Both are rows of `columns`.
pub fn gelu_product(pool: &Pool, isa: Isa, gate: &mut [f32], up: &[f32], columns: usize) {
    product(pool, gate, up, columns, &|gate, up| {
        // SAFETY: the set was found on this machine.
        unsafe { for_isa!(isa, gelu(gate, up): (&mut [f32], &[f32])) }
    });
}

/// gelu of each number, by the error function, in place; rows of `columns`.
pub fn gelu_exact(pool: &Pool, isa: Isa, floats: &mut [f32], columns: usize) {
    let pieces = super::matrix::Pieces::new(floats, columns);
    rows(pool, pieces.len(), columns, &|row| {
        // SAFETY: each row is taken once.
        let row = unsafe { pieces.take(row) };
        // SAFETY: the set was found on this machine.
        unsafe { for_isa!(isa, gelu_row(row): (&mut [f32])) }
    });
}

#[inline(always)]
unsafe fn gelu_row<L: Lanes>(row: &mut [f32]) {
    for float in row {
        *float = 0.5 * *float * (1.0 + error_function(*float * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// The error function, within 4e-7: formula 7.1.26 of Abramowitz and Stegun.
#[inline(always)]
fn error_function(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let mut series = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        series = series * t + coefficient;
    }
    (1.0 - series * t * exponential(-size * size)).copysign(x)
}

fn product(
    pool: &Pool,
    gate: &mut [f32],
    up: &[f32],
    columns: usize,
    act: &(dyn Fn(&mut [f32], &[f32]) + Sync),
) {
    let pieces = super::matrix::Pieces::new(gate, columns);
    rows(pool, pieces.len(), columns, &|row| {
        // SAFETY: each row is taken once.
        let gate = unsafe { pieces.take(row) };
        act(gate, &up[row * columns..][..columns]);
    });
}

#[inline(always)]
unsafe fn silu<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exponential(-*gate)) * up;
    }
}

#[inline(always)]
unsafe fn gelu<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        // 0.5 · (1 + tanh(y)) is sigmoid(2y).
        let y = 0.797_884_6 * (*gate + 0.044_715 * *gate * *gate * *gate);
        *gate = *gate / (1.0 + exponential(-2.0 * y)) * up;
    }
}

/// Turns scores into shares that sum to one, in place. `floats` is not empty.
pub fn softmax(isa: Isa, floats: &mut [f32]) {
    // SAFETY: the set was found on this machine.
    unsafe { for_isa!(isa, shares(floats): (&mut [f32])) }
}

/// As [`softmax`], for those who are in an instruction set already.
///
/// # Safety
/// As [`Lanes`] says.
#[inline(always)]
pub(super) unsafe fn shares<L: Lanes>(floats: &mut [f32]) {
    /// Floats that are computed at once: two registers or one.
    const AT_ONCE: usize = 16;
    let mut largest = [f32::NEG_INFINITY; AT_ONCE];
    // What is left is filled up with what has no share.
    let (whole, rest) = floats.as_chunks_mut::<AT_ONCE>();
    let mut last = largest;
    last[..rest.len()].copy_from_slice(rest);
    for some in whole.iter().chain([&last]) {
        for (largest, &float) in largest.iter_mut().zip(some) {
            // Not `max`, which cares for what is no number and is not one instruction.
            *largest = if float > *largest { float } else { *largest };
        }
    }
    let top = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; AT_ONCE];
    for some in whole.iter_mut().chain([&mut last]) {
        for (float, sum) in some.iter_mut().zip(&mut sums) {
            *float = exponential(*float - top);
            *sum += *float;
        }
    }
    rest.copy_from_slice(&last[..rest.len()]);
    let sum: f32 = sums.iter().sum();
    let scale = 1.0 / sum;
    for float in floats {
        *float *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_one() {
        for step in -8600..8700 {
            let x = step as f32 / 100.0;
            let (found, exact) = (f64::from(exponential(x)), f64::from(x).exp());
            assert!((found / exact - 1.0).abs() < 3e-7, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn the_error_function_is_one() {
        // Python: math.erf(x)
        for (x, exact) in [
            (0.0, 0.0),
            (1e-3, 0.001_128_379),
            (0.1, 0.112_462_92),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (-1.5, -0.966_105_15),
            (2.5, 0.999_593),
            (9.0, 1.0),
            (-40.0, -1.0),
        ] {
            let found = error_function(x);
            assert!((found - exact).abs() < 4e-7, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn rows_are_centered() {
        let pool = Pool::new(1).unwrap();
        for columns in [3, 8, 21] {
            let numbers =
                |step: f32| (0..columns).map(move |i| (i as f32 * step).sin() * 3.0 + 1.0);
            let row: Vec<f32> = numbers(1.7).collect();
            let (weights, bias): (Vec<f32>, Vec<f32>) = numbers(0.3).zip(numbers(2.1)).unzip();
            let count = f64::from(columns as u32);
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let squares = row.iter().map(|&x| (f64::from(x) - mean).powi(2));
            let scale = 1.0 / (squares.sum::<f64>() / count + 1e-5).sqrt();
            for isa in Isa::all() {
                let mut found = row.repeat(2);
                layer_norm(&pool, isa, &mut found, &weights, &bias, 1e-5);
                for (place, found) in found.iter().enumerate() {
                    let place = place % columns;
                    let exact = (f64::from(row[place]) - mean) * scale;
                    let exact = exact * f64::from(weights[place]) + f64::from(bias[place]);
                    assert!(
                        (f64::from(*found) - exact).abs() < 1e-5,
                        "{isa}: {found} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn shares_sum_to_one_and_keep_their_order() {
        for length in [1, 7, 8, 30] {
            let scores: Vec<f32> = (0..length).map(|i| (i as f32 * 1.7).sin() * 9.0).collect();
            let exact: Vec<f64> = scores.iter().map(|&x| f64::from(x).exp()).collect();
            let sum: f64 = exact.iter().sum();
            for isa in Isa::all() {
                let mut found = scores.clone();
                softmax(isa, &mut found);
                for (found, exact) in found.iter().zip(&exact) {
                    assert!((f64::from(*found) - exact / sum).abs() < 1e-6, "{isa}");
                }
            }
        }
    }
}
