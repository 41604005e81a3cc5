//! `cargo xtask bench infer`: reading and generating beside llama.cpp, on the same files, by turns.
//!
//! The files have the shapes of real models and seeded weights. The roofline is what the memory
//! allows: a token's weights are read once.

mod file;
mod peer;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::file::{Mix, SHAPES, Shape};
use self::peer::LlamaCpp;
use super::median::median;
use crate::arch::Arch;
use crate::hostpackages;
use crate::rust::Rust;
use crate::stage::Stages;
use crate::userland;
use crate::workspace::Workspace;

/// Measures prompt and generation rates beside llama.cpp.
#[derive(Debug, Args)]
pub struct InferArgs {
    /// Only shapes whose name contains this.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub shape: String,
    /// Only these formats.
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    pub format: Vec<Mix>,
    /// Only these counts of threads.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2])]
    pub threads: Vec<usize>,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub prompt: usize,
    /// Tokens generated.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub answer: usize,
    /// Rounds of each side; medians are compared.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub rounds: u16,
    /// Keeps one processor busy meanwhile, as another service might.
    #[arg(long)]
    pub neighbour: bool,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// A thread of this program that does nothing but take time, until this ends.
struct Neighbour {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let asked = ends.clone();
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Neighbour {
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and there is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// What the engine's side prints.
#[derive(Debug, Deserialize)]
struct Ours {
    isa: String,
    load_ms: f64,
    first_token_ms: f64,
    prompt_rates: Vec<f64>,
    answer_rates: Vec<f64>,
    together_rate: f64,
    edit_rate: f64,
    peak_bytes: u64,
    cache_bytes: u64,
    weight_bytes: u64,
}

/// One row of the result.
#[derive(Debug, Serialize)]
struct Row {
    shape: &'static str,
    format: &'static str,
    threads: usize,
    isa: String,
    file_bytes: u64,
    load_ms: f64,
    first_token_ms: f64,
    /// Without `cache_bytes`, which keys and values take.
    peak_bytes: u64,
    cache_bytes: u64,
    /// Tokens each second: ours, and llama.cpp's.
    prompt: [f64; 2],
    answer: [f64; 2],
    /// Tokens each second that four answers get together: ours.
    together: f64,
    /// Tokens each second of an answer that repeats its prompt but for every twentieth token: ours.
    edit: f64,
    /// Of the measured bandwidth, what our generation takes.
    roofline: f64,
}

/// The `bench infer` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &InferArgs) -> Result<()> {
    let arch = Arch::host().context("xtask runs on x86_64 and on aarch64 only")?;
    let shapes = shapes(&args.shape)?;
    hostpackages::ensure(stages, &[hostpackages::USERLAND])?;
    let peer = LlamaCpp::build(workspace, stages)?;
    let rust = Rust::native(arch);
    let program = stages.run("engine", |stage| {
        let mut cargo = userland::cargo(workspace, &rust, "build");
        stage.run(cargo.args(["--package", "kos-infer", "--example", "bench-model"]))?;
        let built = userland::program(workspace, arch, "kos-infer");
        Ok(built.with_file_name("examples").join("bench-model"))
    })?;
    let mut bandwidths = Vec::new();
    for &threads in &args.threads {
        let text = said(Command::new(&program).args(["bandwidth", &threads.to_string()]))?;
        bandwidths.push(text.trim().parse::<f64>().context("a bandwidth")?);
    }
    let scratch = tempfile::Builder::new()
        .prefix("bench-infer-")
        .tempdir_in(workspace.out()?)?;
    let _neighbour = args.neighbour.then(Neighbour::start);
    let mut rows = Vec::new();
    for shape in shapes {
        let formats = Mix::ALL
            .iter()
            .filter(|mix| args.format.is_empty() || args.format.contains(mix));
        for &mix in formats {
            let path = scratch.path().join("model.gguf");
            let name = format!("{} {}", shape.name, mix.name());
            stages.run(&name, |stage| {
                stage.note("writing the file");
                file::write(&path, shape, mix)?;
                for (&threads, &bandwidth) in args.threads.iter().zip(&bandwidths) {
                    stage.note(format!("{threads} threads"));
                    let side = Sides {
                        program: &program,
                        peer: &peer,
                        file: &path,
                        threads,
                    };
                    rows.push(side.measure(shape, mix, bandwidth, args)?);
                }
                Ok(())
            })?;
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows, args, &bandwidths));
    }
    Ok(())
}

/// The shapes whose names contain this, whatever the case.
fn shapes(name: &str) -> Result<Vec<&'static Shape>> {
    let wanted = name.to_lowercase();
    let has = |shape: &&Shape| shape.name.to_lowercase().contains(&wanted);
    let found: Vec<_> = SHAPES.iter().filter(has).collect();
    let allowed: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
    let allowed = allowed.join(", ");
    ensure!(
        !found.is_empty(),
        "--shape: found {name:?}, allowed: a part of {allowed}"
    );
    Ok(found)
}

struct Sides<'a> {
    program: &'a PathBuf,
    peer: &'a LlamaCpp,
    file: &'a Path,
    threads: usize,
}

impl Sides<'_> {
    fn measure(&self, shape: &Shape, mix: Mix, bandwidth: f64, args: &InferArgs) -> Result<Row> {
        let (mut prompts, mut answers) = ([vec![], vec![]], [vec![], vec![]]);
        let (mut together, mut edits) = (Vec::new(), Vec::new());
        let mut last = None;
        for _ in 0..args.rounds {
            let ours = self.ours(args)?;
            prompts[0].extend(&ours.prompt_rates);
            answers[0].extend(&ours.answer_rates);
            together.push(ours.together_rate);
            edits.push(ours.edit_rate);
            let (prompt, answer) =
                self.peer
                    .round(self.file, self.threads, args.prompt, args.answer)?;
            prompts[1].push(prompt);
            answers[1].push(answer);
            last = Some(ours);
        }
        let last = last.context("at least one round")?;
        let prompt = prompts.map(|rates| median(&rates));
        let answer = answers.map(|rates| median(&rates));
        Ok(Row {
            shape: shape.name,
            format: mix.name(),
            threads: self.threads,
            isa: last.isa,
            file_bytes: std::fs::metadata(self.file)?.len(),
            load_ms: last.load_ms,
            first_token_ms: last.first_token_ms,
            peak_bytes: last.peak_bytes.saturating_sub(last.cache_bytes),
            cache_bytes: last.cache_bytes,
            together: median(&together),
            edit: median(&edits),
            roofline: answer[0] * last.weight_bytes as f64 / bandwidth,
            prompt,
            answer,
        })
    }

    fn ours(&self, args: &InferArgs) -> Result<Ours> {
        let mut command = Command::new(self.program);
        command.arg(self.file);
        for number in [self.threads, args.prompt, args.answer, 1] {
            command.arg(number.to_string());
        }
        let text = said(&mut command)?;
        serde_json::from_str(&text).context("read what bench-model printed")
    }
}

/// What a program printed, if it went well.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().context("run bench-model")?;
    ensure!(
        output.status.success(),
        "bench-model: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn table(rows: &[Row], args: &InferArgs, bandwidths: &[f64]) -> String {
    let mut text = String::new();
    for (threads, bandwidth) in args.threads.iter().zip(bandwidths) {
        text += &format!(
            "memory is read at {:.1} GB/s by {threads} threads\n",
            bandwidth / 1e9
        );
    }
    text += &format!(
        "\nTokens each second, kos / llama.cpp: prompts of {}, answers of {}; medians of {} rounds{}\n\n\
         | shape | format | threads | prompt | × | answer | × | of bandwidth | four together, to one \
         | an edit, to llama.cpp | load, ms | first token, ms | peak memory without cache, to file |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        args.prompt,
        args.answer,
        args.rounds,
        if args.neighbour {
            ", beside a neighbour that keeps one processor busy"
        } else {
            ""
        }
    );
    for row in rows {
        let [ours, theirs] = row.prompt;
        let [own, other] = row.answer;
        text += &format!(
            "| {} | {} | {} | {ours:.0} / {theirs:.0} | {:.2} | {own:.1} / {other:.1} | {:.2} | {:.0} % \
             | {:.2} | {:.2} | {:.0} | {:.0} | {:.2} |\n",
            row.shape,
            row.format,
            row.threads,
            ours / theirs,
            own / other,
            row.roofline * 100.0,
            row.together / own,
            row.edit / other,
            row.load_ms,
            row.first_token_ms,
            row.peak_bytes as f64 / row.file_bytes as f64,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_found_by_a_part_of_its_name() {
        assert_eq!(shapes("").unwrap().len(), SHAPES.len());
        assert_eq!(shapes("135m").unwrap()[0].name, "SmolLM2-135M");
        let error = shapes("7b").err().unwrap().to_string();
        assert!(
            error.contains("found \"7b\"") && error.contains("Llama-3.2-3B"),
            "{error}"
        );
    }
}
