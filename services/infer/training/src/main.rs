//! `kos-training`: trains the operator, shows what it is trained on, and says how good it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kos_infer::gguf;
use kos_infer::operator::Operator;
use kos_training::chance::Chance;
use kos_training::grammar::Grammar;
use kos_training::learn::{Plan, learn};
use kos_training::score::{Score, read, score};
use kos_training::{sentence, write};

const HELP: &str = "\
Trains the operator, the model of kOS that understands requests to the box.

Usage: kos-training train --output FILE [--steps N] [--seed N] [--development FILE]
       kos-training score --model FILE [--failures] FILE...
       kos-training say [--seed N] [--count N]

  train   trains a model on what the grammar says, and writes it
  score   how many of the requests in FILEs a model understands, by kind of call
  say     prints requests as it is trained on";

fn main() -> Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut output, mut model, mut development) = (None::<PathBuf>, None::<PathBuf>, None);
    let (mut steps, mut seed, mut count, mut failures) = (12_000_usize, 1_u64, 40_usize, false);
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("output") => output = Some(parser.value()?.into()),
            Long("model") => model = Some(parser.value()?.into()),
            Long("development") => development = Some(PathBuf::from(parser.value()?)),
            Long("steps") => steps = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            Long("count") => count = parser.value()?.parse()?,
            Long("failures") => failures = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(());
            }
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match words.split_first() {
        Some((command, [])) if command == "train" => {
            let output = output.context("train needs --output FILE")?;
            let development = development.as_deref().map(read).transpose()?;
            let plan = Plan {
                seed,
                steps,
                development: development.unwrap_or_default(),
            };
            train(&plan, &output)
        }
        Some((command, files)) if command == "score" => {
            let operator = load(&model.context("score needs --model FILE")?)?;
            for file in files {
                println!("{file}");
                print(&score(&operator, &read(Path::new(file))?)?, failures);
            }
            Ok(())
        }
        Some((command, [])) if command == "say" => {
            let grammar = Grammar::read()?;
            let mut chance = Chance::new(seed);
            for _ in 0..count {
                let sentence = sentence::make(&grammar, &mut chance);
                println!("{:10} {}", sentence.kind.name(), sentence.words.join(" "));
            }
            Ok(())
        }
        _ => bail!("found {words:?}, allowed: train, score, say (see --help)"),
    }
}

fn train(plan: &Plan, output: &Path) -> Result<()> {
    let learned = learn(plan)?;
    let record = format!(
        "seed {}, {} steps, loss {:.4}",
        plan.seed, plan.steps, learned.loss
    );
    let bytes = write::file(&learned.vocabulary, &learned.weights, &record)?;
    write::put(output, &bytes)?;
    println!(
        "{record}, {} s, {} bytes",
        learned.time.as_secs(),
        bytes.len()
    );
    // What was written is what is judged: 8 bits are not 32.
    print(&score(&load(output)?, &plan.development)?, true);
    Ok(())
}

fn load(path: &Path) -> Result<Operator> {
    let act = || format!("read {}", path.display());
    let file = std::fs::File::open(path).with_context(act)?;
    let length = file.metadata().with_context(act)?.len();
    let header = gguf::File::read(std::io::BufReader::new(&file), length).with_context(act)?;
    Operator::load(&header, &file).with_context(act)
}

fn print(score: &Score, failures: bool) {
    for (kind, (all, right)) in &score.kinds {
        println!("  {kind:10} {right:4} of {all}");
    }
    let (all, _) = score.total();
    println!(
        "  exact {}; the right kind {} of {all}; no request taken for a change {}",
        score.show(),
        score.right_kind,
        score.dangerous
    );
    for (say, meant, found) in score.wrong.iter().filter(|_| failures) {
        println!("    {say}\n      means {meant}\n      found {found}");
    }
}
