//! Choices against numbers: those of llama.cpp's own test of its samplers where it has them, or
//! computed by hand.

use super::*;

/// Cuts nothing, weighs as the logits say.
fn plain() -> Sampling {
    Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        seed: 7,
        ..Sampling::default()
    }
}

fn logits(odds: &[f32]) -> Vec<f32> {
    odds.iter().map(|odds| odds.ln()).collect()
}

/// How often each token is chosen, out of 1.
fn shares(sampling: Sampling, odds: &[f32], seen: &[u32]) -> Vec<f64> {
    const TIMES: u32 = 40_000;
    let mut sampler = Sampler::new(sampling);
    seen.iter().for_each(|&token| sampler.saw(token));
    let mut counts = vec![0_u32; odds.len()];
    for _ in 0..TIMES {
        counts[sampler.choose(&mut logits(odds)).token as usize] += 1;
    }
    counts
        .iter()
        .map(|&count| f64::from(count) / f64::from(TIMES))
        .collect()
}

fn assert_shares(sampling: Sampling, odds: &[f32], seen: &[u32], wanted: &[f64]) {
    let found = shares(sampling.clone(), odds, seen);
    for (found_share, wanted_share) in found.iter().zip(wanted) {
        let impossible = *wanted_share == 0.0 && *found_share > 0.0;
        assert!(
            !impossible && (found_share - wanted_share).abs() < 0.012,
            "{sampling:?}: found {found:?}, wanted {wanted:?}"
        );
    }
}

const FOUR: [f32; 4] = [0.1, 0.2, 0.3, 0.4];

#[test]
fn temperature_bends_the_odds() {
    let at = |temperature| Sampling {
        temperature,
        ..plain()
    };
    assert_shares(at(1.0), &FOUR, &[], &[0.1, 0.2, 0.3, 0.4]);
    assert_shares(at(0.0), &FOUR, &[], &[0.0, 0.0, 0.0, 1.0]);
    // At 0.5 odds are squared: 1, 4, 9, 16 of 30.
    assert_shares(at(0.5), &FOUR, &[], &[0.0333, 0.1333, 0.3, 0.5333]);
    let mut sampler = Sampler::new(at(0.0));
    assert_eq!(
        sampler.choose(&mut [0.0, 3.0, 3.0, -1.0]).token,
        1,
        "the first of equals"
    );
}

#[test]
fn top_k_as_llama_cpp() {
    let keep = |top_k| Sampling { top_k, ..plain() };
    assert_shares(keep(1), &FOUR, &[], &[0.0, 0.0, 0.0, 1.0]);
    assert_shares(keep(3), &FOUR, &[], &[0.0, 0.22222, 0.33333, 0.44444]);
    assert_shares(keep(4), &FOUR, &[], &[0.1, 0.2, 0.3, 0.4]);
    assert_shares(keep(0), &FOUR, &[], &[0.1, 0.2, 0.3, 0.4]);
}

#[test]
fn top_p_as_llama_cpp() {
    for top_k in [0, 4] {
        let keep = |top_p| Sampling {
            top_p,
            top_k,
            ..plain()
        };
        assert_shares(keep(0.0), &FOUR, &[], &[0.0, 0.0, 0.0, 1.0]);
        assert_shares(keep(0.69), &FOUR, &[], &[0.0, 0.0, 0.428571, 0.571429]);
        assert_shares(keep(0.8), &FOUR, &[], &[0.0, 0.22222, 0.33333, 0.44444]);
        assert_shares(keep(1.0), &FOUR, &[], &[0.1, 0.2, 0.3, 0.4]);
    }
}

#[test]
fn min_p_as_llama_cpp() {
    let keep = |min_p| Sampling { min_p, ..plain() };
    assert_shares(keep(0.24), &FOUR, &[], &[0.1, 0.2, 0.3, 0.4]);
    assert_shares(keep(0.26), &FOUR, &[], &[0.0, 0.22222, 0.33333, 0.44444]);
    assert_shares(keep(0.49), &FOUR, &[], &[0.0, 0.22222, 0.33333, 0.44444]);
    assert_shares(keep(0.51), &FOUR, &[], &[0.0, 0.0, 0.428571, 0.571429]);
    assert_shares(keep(0.76), &FOUR, &[], &[0.0, 0.0, 0.0, 1.0]);
    assert_shares(keep(1.0), &FOUR, &[], &[0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn typical_as_llama_cpp() {
    let keep = Sampling {
        typical_p: 0.5,
        ..plain()
    };
    let one = [0.97, 0.01, 0.01, 0.01];
    assert_shares(keep.clone(), &one, &[], &[1.0, 0.0, 0.0, 0.0]);
    // The likeliest is not typical here.
    let third = 1.0 / 3.0;
    assert_shares(
        keep.clone(),
        &[0.4, 0.2, 0.2, 0.2],
        &[],
        &[0.0, third, third, third],
    );
    let cold = Sampling {
        temperature: 0.0,
        ..keep
    };
    assert_shares(cold, &[0.4, 0.2, 0.2, 0.2], &[], &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn penalties_as_llama_cpp() {
    let five = [0.2; 5];
    let repeat = Sampling {
        repeat_penalty: 50.0,
        ..plain()
    };
    assert_shares(repeat.clone(), &five, &[0], &[0.0, 0.25, 0.25, 0.25, 0.25]);
    assert_shares(repeat, &five, &[0, 1, 2], &[0.0, 0.0, 0.0, 0.5, 0.5]);
    let others = Sampling {
        frequency_penalty: 0.5,
        presence_penalty: 0.2,
        ..plain()
    };
    // e^-0.7 and, seen three times, e^-1.7 against 1.
    let (once, thrice) = ((-0.7_f64).exp(), (-1.7_f64).exp());
    let total = 3.0 + once + thrice;
    let wanted = [thrice, once, 1.0, 1.0, 1.0].map(|share| share / total);
    assert_shares(others.clone(), &five, &[0, 1, 0, 0], &wanted);
    // Only the last token counts.
    let short = Sampling {
        repeat_last: 1,
        ..others
    };
    let total = 4.0 + once;
    let wanted = [once, 1.0, 1.0, 1.0, 1.0].map(|share| share / total);
    assert_shares(short, &five, &[0, 1, 0, 0], &wanted);
}

#[test]
fn a_penalty_lowers_negative_logits_too() {
    let cold = Sampling {
        temperature: 0.0,
        repeat_penalty: 2.0,
        repeat_last: 1,
        ..plain()
    };
    let mut sampler = Sampler::new(cold);
    sampler.saw(0);
    assert_eq!(sampler.choose(&mut [3.0, 2.0]).token, 1);
    assert_eq!(sampler.choose(&mut [-2.0, -3.0]).token, 1);
    sampler.saw(1);
    assert_eq!(sampler.choose(&mut [3.0, 2.0]).token, 0);
}

#[test]
fn a_bias_forbids_and_favours() {
    let biased = Sampling {
        logit_bias: vec![(3, -100.0), (0, 2_f32.ln()), (9, 5.0)],
        ..plain()
    };
    let wanted = [0.2 / 0.7, 0.2 / 0.7, 0.3 / 0.7, 0.0];
    assert_shares(biased, &FOUR, &[], &wanted);
}

#[test]
fn probabilities_are_the_models_own() {
    let mut sampler = Sampler::new(Sampling {
        temperature: 0.0,
        logit_bias: vec![(1, 100.0)],
        logprobs: Some(2),
        ..plain()
    });
    let choice = sampler.choose(&mut logits(&FOUR));
    assert_eq!(choice.token, 1);
    assert!((choice.logprob - 0.2_f32.ln()).abs() < 1e-6);
    assert_eq!([choice.top[0].0, choice.top[1].0], [3, 2]);
    assert!((choice.top[0].1 - 0.4_f32.ln()).abs() < 1e-6);
    assert!((choice.top[1].1 - 0.3_f32.ln()).abs() < 1e-6);
    let mut sampler = Sampler::new(Sampling {
        logprobs: Some(0),
        ..plain()
    });
    let choice = sampler.choose(&mut logits(&FOUR));
    assert!(choice.logprob < 0.0 && choice.top.is_empty());
}

#[test]
fn mirostat_keeps_what_its_bound_allows() {
    // 2 tau = 2 bits: only probabilities of at least a quarter.
    let second = Sampling {
        mirostat: 2,
        mirostat_tau: 1.0,
        mirostat_eta: 0.0,
        ..plain()
    };
    assert_shares(second.clone(), &FOUR, &[], &[0.0, 0.0, 0.428571, 0.571429]);
    // Learning: after token 3 (alone, 0 bits of surprise) the bound rises by eta * tau = 2.
    let mut sampler = Sampler::new(Sampling {
        mirostat_tau: 2.0,
        mirostat_eta: 1.0,
        ..second
    });
    assert_eq!(sampler.choose(&mut [0.0, 0.0, 0.0, 50.0]).token, 3);
    assert!((sampler.surprise - 6.0).abs() < 1e-4);
    // Odds of 1/n have the exponent 1.2 exactly: k = ((0.2 * 2^mu) / (1 - N^-0.2))^(1/1.2).
    let zipf: Vec<f32> = (1..=1000).map(|n| (n as f32).powf(-1.2)).collect();
    let mut first = Sampler::new(Sampling {
        mirostat: 1,
        mirostat_tau: 2.0,
        mirostat_eta: 0.0,
        ..plain()
    });
    let wanted = ((0.2 * 16.0) / (1.0 - 1000_f64.powf(-0.2))).powf(1.0 / 1.2) as u32;
    let highest = (0..2000)
        .map(|_| first.choose(&mut logits(&zipf)).token)
        .max();
    assert_eq!(highest, Some(wanted - 1));
}

#[test]
fn the_same_seed_chooses_the_same() {
    for mirostat in [0, 1, 2] {
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling {
                seed,
                mirostat,
                ..plain()
            });
            (0..20)
                .map(|_| sampler.choose(&mut [0.0; 100]).token)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}

/// Every way through the cuts, against one that sorts everything and hurries nowhere.
#[test]
fn partial_selections_are_exact() {
    let mut random = Sampler::new(plain());
    for round in 0..300 {
        let count = 1 + (random.uniform() * 5000.0) as usize;
        let spread = 1.0 + random.uniform() as f32 * 20.0;
        let logits: Vec<f32> = (0..count)
            .map(|_| (random.uniform() as f32 * spread * 8.0).round() / 8.0)
            .collect();
        let top_k = [0, 1, 40, 1000][round % 4];
        let top_p = [0.9, 0.5, 1.0, 0.999][round / 4 % 4];
        let min_p = [0.0, 0.05, 0.5][round % 3];
        let mut sorted: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if top_k > 0 {
            sorted.truncate(top_k);
        }
        let highest = sorted[0].0;
        let total: f64 = sorted.iter().map(|s| f64::from(s.0 - highest).exp()).sum();
        let mut sum = 0.0;
        let mut kept = Vec::new();
        for &(logit, token) in &sorted {
            let weight = f64::from(logit - highest).exp();
            if top_p < 1.0 && sum >= top_p * total {
                break;
            }
            sum += weight;
            if min_p == 0.0 || logit >= highest + (min_p as f32).ln() {
                kept.push(token);
            }
        }
        let sampling = Sampling {
            top_k,
            top_p,
            min_p,
            ..plain()
        };
        let mut candidates = match top_k > 0 && top_k < count {
            true => Candidates::best(&logits, top_k),
            false => Candidates::all(&logits, &mut Vec::new(), &sampling),
        };
        candidates.top_and_min(top_p, min_p as f32);
        let mut found = candidates.tokens();
        found.sort_unstable();
        kept.sort_unstable();
        // At the border of top-p rounding may keep one more or less of thousands.
        let differ = found.len().abs_diff(kept.len());
        assert!(
            differ <= usize::from(top_p < 1.0),
            "{sampling:?} {count} {differ}"
        );
        let common = found
            .iter()
            .filter(|t| kept.binary_search(t).is_ok())
            .count();
        assert_eq!(common, found.len().min(kept.len()), "{sampling:?} {count}");
    }
}

#[test]
fn forbidden_tokens_are_never_chosen() {
    let nothing = f32::NEG_INFINITY;
    for sampling in [
        plain(),
        Sampling::default(),
        Sampling {
            typical_p: 0.9,
            ..plain()
        },
        Sampling {
            mirostat: 1,
            ..plain()
        },
        Sampling {
            mirostat: 2,
            ..plain()
        },
        Sampling {
            min_p: 0.1,
            logprobs: Some(5),
            ..plain()
        },
    ] {
        let mut sampler = Sampler::new(sampling.clone());
        for _ in 0..200 {
            let mut logits = vec![nothing, 0.0, f32::NAN, 1.0, nothing, -300.0];
            let token = sampler.choose(&mut logits).token;
            assert!([1, 3, 5].contains(&token), "{sampling:?} {token}");
            assert_eq!(sampler.choose(&mut [nothing, nothing]).token, 0);
        }
    }
}

#[test]
fn ranges_are_checked() {
    assert_eq!(Sampling::default().check(), Ok(()));
    let wrong = |change: fn(&mut Sampling)| {
        let mut sampling = plain();
        change(&mut sampling);
        sampling.check().unwrap_err().to_string()
    };
    assert_eq!(wrong(|s| s.top_p = 1.5), "top_p is 1.5, allowed: 0 to 1");
    assert_eq!(wrong(|s| s.mirostat = 3), "mirostat is 3, allowed: 0, 1, 2");
    assert!(wrong(|s| s.temperature = f64::NAN).contains("temperature is NaN"));
    assert!(wrong(|s| s.logprobs = Some(21)).contains("top_logprobs is 21"));
    assert!(wrong(|s| s.logit_bias = vec![(5, 101.0)]).contains("logit_bias is 101 for token 5"));
    assert!(wrong(|s| s.logit_bias = vec![(0, 0.0); 2000]).contains("for 2000 tokens"));
}
