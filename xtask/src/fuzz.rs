//! `cargo xtask fuzz`: the targets of `fuzz/`, each fed by a fuzzer for a time.
//!
//! libFuzzer comes as a crate and the compiler's own coverage instrumentation feeds it, so that the
//! pinned stable compiler is enough and `cargo fuzz` works beside it. Our parsers hold no `unsafe`:
//! what is looked for is a panic, an overflow, a hang and memory without bound.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::arch::Arch;
use crate::hostpackages;
use crate::stage::{Stage, Stages, duration};
use crate::workspace::Workspace;

/// What every test run gives each target: long enough to go through the corpus and some thousands of
/// inputs beyond it.
const SHORT: Duration = Duration::from_secs(3);
/// Larger inputs are refused by every parser, and one test says so; searching among them finds nothing.
const LONGEST_INPUT: usize = 8192;
/// One input that takes so long is a hang: usual are microseconds.
const HANG: Duration = Duration::from_secs(20);
/// Far beyond what the parsers hold for an input of that length; the fuzzer itself takes a part.
const MEMORY_MIB: u32 = 1024;
/// LLVM's instrumentation as libFuzzer reads it: counters per edge, and what comparisons compared.
const INSTRUMENTATION: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Fuzzes the parsers of what comes from outside.
///
/// What is found stays in `target/fuzz/findings`; an input that broke something belongs into
/// `fuzz/corpus`, where every later run meets it.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// Only the targets whose names contain TARGET.
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// How long, in minutes for each target.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub minutes: u64,
    /// Where chance begins; the same seed makes the same first choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
}

/// The `fuzz` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &FuzzArgs) -> Result<()> {
    let time = Duration::from_secs(args.minutes * 60);
    let wanted = args.target.as_deref().unwrap_or_default();
    hostpackages::ensure(stages, &[hostpackages::FUZZ])?;
    let fuzzing = stages.run("fuzz targets", |stage| Fuzzing::build(workspace, stage))?;
    let targets: Vec<&String> = fuzzing
        .targets
        .iter()
        .filter(|target| target.contains(wanted))
        .collect();
    ensure!(
        !targets.is_empty(),
        "found '{wanted}', allowed: a part of {}",
        fuzzing.targets.join(", ")
    );
    for target in targets {
        stages.run(&format!("fuzzing {target}"), |stage| {
            let runs = fuzzing.feed(stage, target, time, args.seed)?;
            stage.summary(format!("{runs} inputs, nothing found"));
            Ok(())
        })?;
    }
    Ok(())
}

/// A short run of every target, as part of the tests.
pub fn short(workspace: &Workspace, stage: &Stage) -> Result<()> {
    let fuzzing = Fuzzing::build(workspace, stage)?;
    let mut inputs = 0;
    for target in &fuzzing.targets {
        inputs += fuzzing.feed(stage, target, SHORT, 1)?;
    }
    stage.summary(format!(
        "{} targets for {} each, {inputs} inputs, nothing found",
        fuzzing.targets.len(),
        duration(SHORT)
    ));
    Ok(())
}

/// Compiled targets.
struct Fuzzing {
    corpora: PathBuf,
    output: PathBuf,
    programs: PathBuf,
    targets: Vec<String>,
}

impl Fuzzing {
    fn build(workspace: &Workspace, stage: &Stage) -> Result<Self> {
        let source = workspace.root().join("fuzz");
        let corpora = source.join("corpus");
        let output = workspace.target().join("fuzz");
        let triple = Arch::host()
            .context("xtask runs on x86_64 and on aarch64 only")?
            .target();
        let mut cargo = workspace.cargo();
        // Encoded: nothing of the caller's flags is added. With a target named, build scripts and
        // procedural macros stay as they are.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"));
        cargo
            .env_remove("RUSTFLAGS")
            .args(["build", "--release", "--locked", "--bins"]);
        cargo
            .args(["--target", triple, "--target-dir"])
            .arg(&output);
        cargo.arg("--manifest-path").arg(source.join("Cargo.toml"));
        stage.run(&mut cargo)?;
        Ok(Fuzzing {
            targets: directories(&corpora)?,
            corpora,
            programs: output.join(triple).join("release"),
            output,
        })
    }

    /// Feeds one target; says how many inputs it has taken.
    fn feed(&self, stage: &Stage, target: &str, time: Duration, seed: u32) -> Result<u64> {
        stage.note(target);
        let grown = self.output.join("grown").join(target);
        let findings = self.output.join("findings");
        for directory in [&grown, &findings] {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("make {}", directory.display()))?;
        }
        let mut fuzzer = Command::new(self.programs.join(target));
        fuzzer
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            .arg(format!("-seed={seed}"))
            .arg(format!("-max_len={LONGEST_INPUT}"))
            .arg(format!("-timeout={}", HANG.as_secs()))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
            // What is new goes into the first directory, outside of the repository.
            .args([&grown, &self.corpora.join(target)]);
        let mut runs = 0;
        stage
            .run_lines(&mut fuzzer, |line| {
                runs = done(line).unwrap_or(runs);
            })
            .with_context(|| format!("the input that did it is in {}", findings.display()))?;
        ensure!(runs > 0, "{target} has taken no input");
        Ok(runs)
    }
}

/// Each target has a directory of inputs.
fn directories(corpora: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let about = || format!("list {}", corpora.display());
    for entry in std::fs::read_dir(corpora).with_context(about)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// libFuzzer's last line: `Done 720765 runs in 16 second(s)`.
fn done(line: &str) -> Option<u64> {
    let (number, rest) = line.strip_prefix("Done ")?.split_once(' ')?;
    rest.starts_with("runs in").then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_last_line() {
        assert_eq!(done("Done 720765 runs in 16 second(s)"), Some(720_765));
        assert_eq!(done("#2 INITED cov: 5"), None);
    }

    /// A target without inputs would not be run, and inputs without a target would fail late.
    #[test]
    fn every_target_has_its_inputs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&manifest).unwrap();
        let mut targets: Vec<&str> = manifest["bin"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| target["name"].as_str().unwrap())
            .collect();
        targets.sort_unstable();
        let corpora = root.join("corpus");
        assert_eq!(targets, directories(&corpora).unwrap());
        for target in targets {
            let inputs = std::fs::read_dir(corpora.join(target)).unwrap().count();
            assert!(inputs > 0, "{target}");
        }
    }
}
