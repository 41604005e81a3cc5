//! `kos-training`: trains the operator, shows what it is trained on, and says how good it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kos_infer::gguf;
use kos_infer::operator::Operator;
use kos_training::chance::Chance;
use kos_training::grammar::Grammar;
use kos_training::learn::{Plan, learn};
use kos_training::score::{Score, read, score};
use kos_training::{overlap, sentence, write};

/// Requests that are made to part the held-out ones from the plain ones. Half of a line's words stand
/// in choices of some ten: what the grammar can make it has most likely made among so many.
const PARTED_BY: usize = 14_000_000;

const HELP: &str = "\
Trains the operator, the model of kOS that understands requests to the box.

Usage: kos-training train --output FILE [--steps N] [--seed N] [--development FILE]
       kos-training score --model FILE [--failures] FILE...
       kos-training part --held-out FILE --plain FILE [--count N]
       kos-training say [--seed N] [--count N]

  train   trains a model on what the grammar says, and writes it
  score   how many of the requests in FILEs a model understands, by kind of call
  part    makes N requests, and moves those of the held-out ones that are among them to the plain ones;
          says how many, and never which
  say     prints requests as it is trained on";

fn main() -> Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut output, mut model, mut development) = (None::<PathBuf>, None::<PathBuf>, None);
    let (mut held_out, mut plain) = (None::<PathBuf>, None::<PathBuf>);
    let (mut steps, mut seed, mut count, mut failures) =
        (12_000_usize, 1_u64, None::<usize>, false);
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("output") => output = Some(parser.value()?.into()),
            Long("model") => model = Some(parser.value()?.into()),
            Long("development") => development = Some(PathBuf::from(parser.value()?)),
            Long("held-out") => held_out = Some(parser.value()?.into()),
            Long("plain") => plain = Some(parser.value()?.into()),
            Long("steps") => steps = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            Long("count") => count = Some(parser.value()?.parse()?),
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
        Some((command, [])) if command == "part" => part(
            &held_out.context("part needs --held-out FILE")?,
            &plain.context("part needs --plain FILE")?,
            count.unwrap_or(PARTED_BY),
        ),
        Some((command, [])) if command == "say" => {
            let grammar = Grammar::read()?;
            let mut chance = Chance::new(seed);
            for _ in 0..count.unwrap_or(40) {
                let sentence = sentence::make(&grammar, &mut chance);
                println!("{:10} {}", sentence.kind.name(), sentence.words.join(" "));
            }
            Ok(())
        }
        _ => bail!("found {words:?}, allowed: train, score, part, say (see --help)"),
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

/// Moves what the grammar makes from one file to the end of the other, line by line as it stands there.
fn part(held_out: &Path, plain: &Path, count: usize) -> Result<()> {
    let examples = read(held_out)?;
    let made = overlap::made(&Grammar::read()?, &examples, count);
    let text = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
    };
    let (mut stay, mut go) = (String::new(), text(plain)?);
    for (place, line) in text(held_out)?.lines().enumerate() {
        let to = match made.contains(&place) {
            true => &mut go,
            false => &mut stay,
        };
        to.push_str(line);
        to.push('\n');
    }
    // The plain file first: a line that stands in both can be seen, one that is lost cannot.
    write::put(plain, go.as_bytes())?;
    write::put(held_out, stay.as_bytes())?;
    println!(
        "{} of {} moved to {}",
        made.len(),
        examples.len(),
        plain.display()
    );
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
