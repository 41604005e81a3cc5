//! Training: requests from the grammar, the network of `kos-infer`, AdamW.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use kos_infer::operator::call::Kind;
use kos_infer::operator::encoder::{Encoder, elements};
use kos_infer::operator::labels::{LABELS, Label};
use kos_infer::operator::words::{UNKNOWN, Vocabulary};
use kos_infer::operator::{self, Operator};

use crate::chance::Chance;
use crate::grammar::Grammar;
use crate::score::{Example, score};
use crate::sentence::{self, Sentence};

/// Requests that are looked through for the words to know.
const LOOKED_THROUGH: usize = 400_000;
/// A word that comes up less often is known by its pieces only.
const LEAST_OFTEN: usize = 12;
/// Requests of one step.
const REQUESTS: usize = 128;
/// Requests that are sorted by length before they are cut into steps, so that little is padded.
const SORTED: usize = 8 * REQUESTS;
/// How fast it learns at most.
const RATE: f64 = 1.5e-3;
/// Steps over which that is reached.
const WARM_UP: usize = 400;
/// Of the steps, the last ones, whose weights are averaged.
const AVERAGED: f64 = 0.25;
/// Steps between those that are averaged.
const BETWEEN: usize = 50;
/// Share of a vector's parts that are left out while training.
const LEFT_OUT: f64 = 0.15;
/// Share of probability that the right kind leaves to the others: the grammar is not all there is.
const DOUBT: f64 = 0.05;
/// How often a name's number is hidden: names that nobody has met must be found, too.
const HIDDEN_NAME: f64 = 0.5;
/// How often another word's is.
const HIDDEN_WORD: f64 = 0.05;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where chance begins.
    pub seed: u64,
    /// Steps in all.
    pub steps: usize,
    /// Requests to say now and then how well it goes; never the held-out ones.
    pub development: Vec<Example>,
}

/// What came of it.
#[derive(Debug)]
pub struct Learned {
    /// The words it knows.
    pub vocabulary: Vocabulary,
    /// The weights by name, in a fixed order.
    pub weights: Vec<(String, Tensor)>,
    /// Mean loss over the last thousand steps.
    pub loss: f64,
    /// How long it took.
    pub time: Duration,
}

/// Trains a model. What is printed on the way is for whoever waits.
///
/// # Errors
/// When the grammar is wrong or candle refuses.
pub fn learn(plan: &Plan) -> Result<Learned> {
    let started = Instant::now();
    let grammar = Grammar::read()?;
    let vocabulary = vocabulary(&grammar, plan.seed);
    println!("{} words are known", vocabulary.words().len());
    let mut weights = Weights::new(Chance::new(plan.seed ^ 0x57_e1_97));
    let encoder = Encoder::new(vocabulary.words().len(), &mut |name, shape| {
        weights.make(name, shape)
    })?;
    let mut teacher = Teacher {
        grammar,
        chance: Chance::new(plan.seed),
        ready: Vec::new(),
    };
    let mut optimizer = AdamW::new(
        weights
            .all
            .iter()
            .map(|(_, weight)| weight.clone())
            .collect(),
        ParamsAdamW {
            lr: 0.0,
            beta2: 0.99,
            weight_decay: 0.02,
            ..ParamsAdamW::default()
        },
    )?;
    let mut average = Average::default();
    let mut chance = Chance::new(plan.seed ^ 0xd809);
    let mut losses = Vec::with_capacity(plan.steps);
    for step in 0..plan.steps {
        optimizer.set_learning_rate(rate(step, plan.steps));
        let sentences = teacher.lesson();
        let loss = lesson_loss(&encoder, &vocabulary, &sentences, &mut chance)?;
        optimizer.backward_step(&loss)?;
        losses.push(f64::from(loss.to_scalar::<f32>()?));
        #[expect(clippy::cast_precision_loss)]
        let done = (step + 1) as f64 / plan.steps as f64;
        if done > 1.0 - AVERAGED && (step + 1) % BETWEEN == 0 {
            average.add(&weights)?;
        }
        if step == 49 || (step + 1) % 500 == 0 {
            let asked = weights.copy(&vocabulary)?;
            println!(
                "step {}: loss {:.4}, development {}, {} s",
                step + 1,
                mean(&losses, 500),
                score(&asked, &plan.development)?.show(),
                started.elapsed().as_secs()
            );
        }
    }
    Ok(Learned {
        vocabulary,
        weights: average.finish(&weights)?,
        loss: mean(&losses, 1000),
        time: started.elapsed(),
    })
}

/// A model of weights by name.
///
/// # Errors
/// When one is missing.
pub fn model(vocabulary: &Vocabulary, weights: &[(String, Tensor)]) -> Result<Operator> {
    let by_name: HashMap<&str, &Tensor> = weights
        .iter()
        .map(|(name, weight)| (name.as_str(), weight))
        .collect();
    let encoder = Encoder::new(vocabulary.words().len(), &mut |name, _| {
        by_name
            .get(name)
            .map(|weight| (*weight).clone())
            .context("a weight is missing")
    })?;
    Ok(Operator::new(vocabulary.clone(), encoder))
}

fn mean(losses: &[f64], last: usize) -> f64 {
    let last = &losses[losses.len().saturating_sub(last)..];
    #[expect(clippy::cast_precision_loss)]
    let count = last.len().max(1) as f64;
    last.iter().sum::<f64>() / count
}

/// Up over the warm-up, then down along half a wave.
fn rate(step: usize, steps: usize) -> f64 {
    #[expect(clippy::cast_precision_loss)]
    let (step, steps, warm) = (step as f64, steps as f64, WARM_UP as f64);
    let up = ((step + 1.0) / warm).min(1.0);
    let down = 0.5 * (1.0 + (std::f64::consts::PI * step / steps).cos());
    RATE * up * down.max(0.02)
}

/// The words that come up often enough, the most frequent first. Digits are known by their shape.
fn vocabulary(grammar: &Grammar, seed: u64) -> Vocabulary {
    let mut chance = Chance::new(seed ^ 0x00_1e_0c);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for _ in 0..LOOKED_THROUGH {
        for word in sentence::make(grammar, &mut chance).words {
            if !word.bytes().any(|byte| byte.is_ascii_digit()) {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    let mut words: Vec<_> = counts
        .into_iter()
        .filter(|(_, count)| *count >= LEAST_OFTEN)
        .map(|(word, count)| (std::cmp::Reverse(count), word))
        .collect();
    words.sort();
    let known = words.into_iter().map(|(_, word)| word);
    Vocabulary::new(std::iter::once("?".to_owned()).chain(known).collect())
}

/// Weights while they are trained.
struct Weights {
    all: Vec<(String, Var)>,
    chance: Chance,
}

impl Weights {
    fn new(chance: Chance) -> Self {
        Weights {
            all: Vec::new(),
            chance,
        }
    }

    /// A weight as it is before training.
    fn make(&mut self, name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
        let deviation = match (name, shape) {
            ("words", _) => 0.1,
            // What training never meets must say nothing.
            ("pieces", _) => 0.0,
            (_, [inputs, _]) => {
                #[expect(clippy::cast_precision_loss)]
                let inputs = *inputs as f64;
                (1.0 / inputs).sqrt()
            }
            _ => 0.0,
        };
        let is_scale = shape.len() == 1 && !name.ends_with("bias");
        let values: Vec<f32> = (0..elements(shape))
            .map(|_| match is_scale {
                true => 1.0,
                false if deviation == 0.0 => 0.0,
                #[expect(clippy::cast_possible_truncation)]
                false => (self.chance.normal() * deviation) as f32,
            })
            .collect();
        let weight = Var::from_vec(values, shape, &Device::Cpu)?;
        self.all.push((name.to_owned(), weight.clone()));
        Ok(weight.as_tensor().clone())
    }

    fn copy(&self, vocabulary: &Vocabulary) -> Result<Operator> {
        let weights: Vec<_> = self
            .all
            .iter()
            .map(|(name, weight)| (name.clone(), weight.as_detached_tensor()))
            .collect();
        model(vocabulary, &weights)
    }
}

/// The mean of weights at several steps: it errs less than each of them.
#[derive(Default)]
struct Average {
    sums: Vec<Tensor>,
    count: usize,
}

impl Average {
    fn add(&mut self, weights: &Weights) -> Result<()> {
        self.count += 1;
        if self.sums.is_empty() {
            for (_, weight) in &weights.all {
                self.sums.push(weight.as_detached_tensor().copy()?);
            }
            return Ok(());
        }
        for (sum, (_, weight)) in self.sums.iter_mut().zip(&weights.all) {
            *sum = (&*sum + weight.as_detached_tensor())?;
        }
        Ok(())
    }

    fn finish(self, weights: &Weights) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::with_capacity(weights.all.len());
        for (place, (name, weight)) in weights.all.iter().enumerate() {
            #[expect(clippy::cast_precision_loss)]
            let mean = match self.sums.get(place) {
                Some(sum) => (sum / self.count as f64)?,
                None => weight.as_detached_tensor(),
            };
            all.push((name.clone(), mean));
        }
        Ok(all)
    }
}

/// Requests for one step after another.
struct Teacher {
    grammar: Grammar,
    chance: Chance,
    ready: Vec<Vec<Sentence>>,
}

impl Teacher {
    fn lesson(&mut self) -> Vec<Sentence> {
        loop {
            if let Some(lesson) = self.ready.pop() {
                return lesson;
            }
            let mut sentences: Vec<_> = (0..SORTED)
                .map(|_| sentence::make(&self.grammar, &mut self.chance))
                .collect();
            sentences.sort_by_key(|sentence| sentence.words.len());
            self.ready = sentences.chunks(REQUESTS).map(<[_]>::to_vec).collect();
            // Short ones first would pull it to and fro.
            for place in (1..self.ready.len()).rev() {
                let other = self.chance.below(place + 1);
                self.ready.swap(place, other);
            }
        }
    }
}

fn lesson_loss(
    encoder: &Encoder,
    vocabulary: &Vocabulary,
    sentences: &[Sentence],
    chance: &mut Chance,
) -> Result<Tensor> {
    let words: Vec<&[String]> = sentences
        .iter()
        .map(|sentence| sentence.words.as_slice())
        .collect();
    let batch = operator::batch(vocabulary, &words, |request, place, number| {
        let is_name = sentences[request].labels.get(place) == Some(&Label::Name);
        let hidden = if is_name { HIDDEN_NAME } else { HIDDEN_WORD };
        if chance.happens(hidden) {
            UNKNOWN
        } else {
            number
        }
    })?;
    let (requests, length) = batch.mask.dims2()?;
    let mut noise = |values: &Tensor| {
        #[expect(clippy::cast_possible_truncation)]
        let kept = (1.0 / (1.0 - LEFT_OUT)) as f32;
        let mask: Vec<f32> = (0..values.elem_count())
            .map(|_| if chance.happens(LEFT_OUT) { 0.0 } else { kept })
            .collect();
        values * Tensor::from_vec(mask, values.shape(), &Device::Cpu)?
    };
    let (kinds, labels) = encoder.forward(&batch, Some(&mut noise))?;

    let right: Vec<u32> = sentences
        .iter()
        .map(|sentence| sentence.kind as u32)
        .collect();
    let right = Tensor::from_vec(right, (requests, 1), &Device::Cpu)?;
    let surprise = kinds.gather(&right, D::Minus1)?.mean_all()?.neg()?;
    let spread = kinds.mean_all()?.neg()?;
    let of_kinds = ((surprise * (1.0 - DOUBT))? + (spread * DOUBT)?)?;

    let right: Vec<u32> = sentences
        .iter()
        .flat_map(|sentence| {
            (0..length).map(|place| {
                sentence
                    .labels
                    .get(place)
                    .map_or(0, |label| label.number() as u32)
            })
        })
        .collect();
    let right = Tensor::from_vec(right, (requests * length, 1), &Device::Cpu)?;
    let labels = labels.reshape((requests * length, LABELS.len()))?;
    let surprise = labels
        .gather(&right, D::Minus1)?
        .reshape((requests, length))?;
    let there = batch.mask.sum_all()?;
    let of_labels = ((surprise * &batch.mask)?.sum_all()?.neg()? / there)?;
    debug_assert_eq!(kinds.dim(1)?, Kind::ALL.len());
    Ok((of_kinds + (of_labels * 3.0)?)?)
}
