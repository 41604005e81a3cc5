//! Exponentials of whole vocabularies, written so that the compiler computes many at once. Sums are
//! taken in one order on every machine, so that a seed means the same everywhere.

/// Numbers handled side by side: the widest registers hold 16.
const LANES: usize = 16;

/// e^x for x up to 0, within 2e-7 of its value; 0 below -87, where floats end.
///
/// Cephes' polynomial: x = n ln 2 + r, and adding 1.5·2^23 rounds n without a call.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 0.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut polynomial = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        polynomial = polynomial * r + coefficient;
    }
    let fraction = polynomial * r * r + r + 1.0;
    let power = f32::from_bits(((shifted.to_bits() << 23) as i32 + (127 << 23)) as u32);
    if x >= -87.0 { fraction * power } else { 0.0 }
}

/// The highest of the numbers; minus infinity when there is none.
pub(super) fn highest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// The sum of e^(logit − highest).
pub(super) fn sum(logits: &[f32], highest: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += exp(logit - highest);
        }
    }
    let rest = rest.iter().map(|&logit| exp(logit - highest));
    lanes.into_iter().chain(rest).sum()
}

/// Fills `weights` with e^((logit − highest)·scale).
pub(super) fn weights(logits: &[f32], highest: f32, scale: f32, weights: &mut Vec<f32>) {
    weights.clear();
    weights.extend(logits.iter().map(|&logit| exp((logit - highest) * scale)));
}

/// The sum of the weights that are at least `least`.
pub(super) fn sum_from(weights: &[f32], least: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = weights.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &weight) in lanes.iter_mut().zip(chunk) {
            *lane += if weight >= least { weight } else { 0.0 };
        }
    }
    let rest = rest.iter().filter(|&&weight| weight >= least);
    lanes.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close() {
        for step in 0..87_000 {
            let x = step as f32 * -0.001;
            let (found, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (found - wanted).abs() <= 2e-7 * wanted,
                "{x} {found} {wanted}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::NAN), 0.0);
    }
}
