//! `cargo xtask test`: everything that must hold, from a fresh machine to booted images.
//!
//! A stage that fails does not hide the next one, as long as the next one can be run at all. The
//! last line says how many checks passed and failed: tests, and each other stage as one.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::arch::Arch;
use crate::fuzz;
use crate::hostpackages;
use crate::kernel::KernelArgs;
use crate::rust::Rust;
use crate::stage::{Stage, Stages, duration};
use crate::test_images::Images;
use crate::tidy;
use crate::userland;
use crate::workspace::Workspace;

/// Packages that run on the host.
const HOST: &[&str] = &["xtask", "kos-qemu", "kos-tests"];
/// The end-to-end suites: `kos-tests`' integration tests.
const END_TO_END: &str = "kos-tests";
/// Two guests fill a machine of two cores; more would only run into their time limits.
const GUESTS_AT_ONCE: usize = 2;

/// Does all set-up and runs every test: format, lints, tidy, unit tests, and suites that boot
/// the image.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Only what needs no guest: format, lints, tidy and unit tests.
    #[arg(long, conflicts_with = "e2e")]
    pub unit: bool,
    /// Only the end-to-end tests whose names contain FILTER (all of them without it).
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "")]
    pub e2e: Option<String>,
    /// Only the end-to-end tests of this architecture: x86_64 or aarch64 [default: both].
    #[arg(long, value_name = "ARCH", conflicts_with = "unit")]
    pub arch: Option<Arch>,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// The `test` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &TestArgs) -> Result<()> {
    let mut suite = Suite::begin(workspace, stages)?;
    if args.e2e.is_none() {
        rust_components(workspace, suite.stages)?;
        suite.without_a_guest();
    }
    if !args.unit {
        for arch in Arch::ALL {
            if args.arch.is_none_or(|wanted| wanted == arch) {
                suite.end_to_end(args, arch, &[]);
            }
        }
    }
    suite.summary()
}

/// The end-to-end tests of one architecture whose names contain `filter`, with more or other chance
/// than usual in their environment.
pub fn longer(
    workspace: &Workspace,
    stages: &mut Stages,
    (arch, filter): (Arch, &str),
    environment: &[(&str, String)],
) -> Result<()> {
    let args = TestArgs {
        unit: false,
        e2e: Some(filter.to_owned()),
        arch: Some(arch),
        kernel: KernelArgs::default(),
    };
    let mut suite = Suite::begin(workspace, stages)?;
    suite.end_to_end(&args, arch, environment);
    suite.summary()
}

fn packages(stages: &mut Stages) -> Result<()> {
    hostpackages::ensure(
        stages,
        &[
            hostpackages::KERNEL,
            hostpackages::USERLAND,
            hostpackages::FUZZ,
            hostpackages::FILE_SYSTEM,
            hostpackages::DISK_TESTS,
            hostpackages::machine(Arch::X86_64),
            hostpackages::machine(Arch::Aarch64),
            hostpackages::uefi(Arch::X86_64),
            hostpackages::uefi(Arch::Aarch64),
        ],
    )
}

/// rustfmt and clippy, which a minimal toolchain lacks.
fn rust_components(workspace: &Workspace, stages: &mut Stages) -> Result<()> {
    let works = |component: &str| {
        workspace
            .cargo()
            .args([component, "--version"])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if works("fmt") && works("clippy") {
        return Ok(());
    }
    stages.run("rust components", |stage| {
        let mut rustup = Command::new("rustup");
        stage
            .run(rustup.args(["component", "add", "rustfmt", "clippy"]))
            .context("cargo fmt or cargo clippy is missing")
    })
}

struct Suite<'a> {
    workspace: &'a Workspace,
    /// The compiler of what runs here.
    rust: Rust,
    stages: &'a mut Stages,
    passed: usize,
    failed: usize,
}

impl<'a> Suite<'a> {
    fn begin(workspace: &'a Workspace, stages: &'a mut Stages) -> Result<Self> {
        packages(stages)?;
        let host = Arch::host().context("xtask runs on x86_64 and on aarch64 only")?;
        Ok(Suite {
            workspace,
            rust: Rust::native(host),
            stages,
            passed: 0,
            failed: 0,
        })
    }

    fn without_a_guest(&mut self) {
        let workspace = self.workspace;
        let rust = self.rust.clone();
        self.check("format", |stage| {
            stage.run(workspace.cargo().args(["fmt", "--all", "--check"]))
        });
        let outcome = tidy::run(workspace, self.stages);
        self.count(outcome.map(|()| (1, 0)));
        for (name, packages) in [
            ("lints", Packages::Image),
            ("lints of the host's side", Packages::Host),
        ] {
            self.check(name, |stage| {
                let mut clippy = packages.cargo(workspace, &rust, "clippy");
                stage.run(clippy.args(["--all-targets", "--", "-D", "warnings"]))
            });
        }
        for (name, packages) in [
            ("unit tests", Packages::Image),
            ("unit tests of the host's side", Packages::HostUnit),
        ] {
            self.tests(
                name,
                packages
                    .cargo(workspace, &rust, "test")
                    .arg("--no-fail-fast"),
            );
        }
        self.check("fuzzing", |stage| fuzz::short(workspace, stage));
    }

    fn end_to_end(&mut self, args: &TestArgs, arch: Arch, more: &[(&str, String)]) {
        let images = match Images::build(self.workspace, self.stages, &args.kernel, arch) {
            Ok(images) => images,
            Err(error) => return self.count(Err(error)),
        };
        let workspace = self.workspace;
        if args.e2e.is_none() {
            self.check(
                &format!("reproducible image for {}", arch.name()),
                |stage| images.reproduce(workspace, stage),
            );
        }
        match images.environment(workspace) {
            Ok(environment) => {
                let mut cargo = workspace.cargo();
                cargo.args(["test", "--release", "--locked", "--package", END_TO_END]);
                cargo.args([
                    "--no-fail-fast",
                    "--",
                    &format!("--test-threads={GUESTS_AT_ONCE}"),
                ]);
                for other in Arch::ALL.into_iter().filter(|other| *other != arch) {
                    cargo.args(["--skip", &format!("on_{}", other.name())]);
                }
                cargo.args(args.e2e.as_ref().filter(|filter| !filter.is_empty()));
                self.tests(
                    &format!("end-to-end tests on {}", arch.name()),
                    cargo.envs(environment).envs(more.iter().cloned()),
                );
            }
            Err(error) => self.count(Err(error)),
        }
    }

    /// A stage that is one check.
    fn check(&mut self, name: &str, work: impl FnOnce(&Stage) -> Result<()>) {
        let outcome = self.stages.run(name, work);
        self.count(outcome.map(|()| (1, 0)));
    }

    /// A stage whose program reports its tests as libtest does.
    fn tests(&mut self, name: &str, cargo: &mut Command) {
        let mut results = Results::default();
        let outcome = self.stages.run(name, |stage| {
            let outcome = stage.run_lines(cargo, |line| {
                if results.read(line) {
                    stage.say(&format!("  {line}"));
                }
            });
            stage.summary(format!(
                "{} passed, {} failed",
                results.passed, results.failed
            ));
            outcome
        });
        match outcome {
            // A program that did not compile or died has failed, whatever its tests said.
            Err(error) if results.failed == 0 => {
                for line in &results.others {
                    eprintln!("    {line}");
                }
                self.passed += results.passed;
                self.count(Err(error));
            }
            _ => self.count(Ok((results.passed, results.failed))),
        }
    }

    fn count(&mut self, outcome: Result<(usize, usize)>) {
        match outcome {
            Ok((passed, failed)) => {
                self.passed += passed;
                self.failed += failed;
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed += 1;
            }
        }
    }

    fn summary(&self) -> Result<()> {
        println!();
        let (mut wall, mut cpu) = (Duration::ZERO, Duration::ZERO);
        for stage in self.stages.done() {
            println!(
                "{:<32} {:>12} {:>16} CPU",
                stage.name,
                duration(stage.wall),
                duration(stage.cpu)
            );
            wall += stage.wall;
            cpu += stage.cpu;
        }
        println!(
            "{:<32} {:>12} {:>16} CPU",
            "all",
            duration(wall),
            duration(cpu)
        );
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 {
            bail!("{} checks failed", self.failed);
        }
        ensure!(self.passed > 0, "nothing was tested");
        Ok(())
    }
}

/// The groups of packages that share flags, and thereby compiled dependencies.
#[derive(Clone, Copy)]
enum Packages {
    Image,
    Host,
    HostUnit,
}

impl Packages {
    fn cargo(self, workspace: &Workspace, rust: &Rust, subcommand: &str) -> Command {
        match self {
            Packages::Image => {
                let mut cargo = userland::cargo(workspace, rust, subcommand);
                cargo.arg("--workspace");
                for package in HOST {
                    cargo.args(["--exclude", package]);
                }
                cargo
            }
            Packages::Host | Packages::HostUnit => {
                let mut cargo = workspace.cargo();
                cargo.args([subcommand, "--release", "--locked"]);
                for package in HOST {
                    // The suites that boot images, and their fixture's own tests, come later.
                    if *package != END_TO_END || matches!(self, Packages::Host) {
                        cargo.args(["--package", package]);
                    }
                }
                cargo
            }
        }
    }
}

/// What libtest printed, as far as it is counted or shown.
#[derive(Default)]
struct Results {
    passed: usize,
    failed: usize,
    /// Inside a section that tells why tests failed.
    telling: bool,
    /// The last lines that were not a test's.
    others: std::collections::VecDeque<String>,
}

impl Results {
    /// Takes a line; true when people want to see it.
    fn read(&mut self, line: &str) -> bool {
        /// Enough for a compiler's error.
        const OTHERS: usize = 60;
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.telling = false;
            let number = |word: &str| -> usize {
                let before = counts.split(word).next().unwrap_or_default();
                before
                    .split_whitespace()
                    .last()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0)
            };
            self.passed += number(" passed");
            self.failed += number(" failed");
            return false;
        }
        if line.starts_with("---- ") {
            self.telling = true;
        }
        if self.others.len() == OTHERS {
            self.others.pop_front();
        }
        self.others.push_back(line.to_owned());
        line.starts_with("measured: ")
            || self.telling
            || (line.starts_with("test ") && line.ends_with("FAILED"))
    }
}

#[cfg(test)]
mod tests {
    use super::Results;

    #[test]
    fn results_are_summed_and_failures_shown() {
        let mut results = Results::default();
        let shown: Vec<_> = [
            "running 2 tests",
            "test a ... ok",
            "measured: 12 of 13",
            "test b ... FAILED",
            "failures:",
            "---- b stdout ----",
            "it panicked",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; finished in 0.1s",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; finished in 0.1s",
        ]
        .into_iter()
        .filter(|line| results.read(line))
        .collect();
        assert_eq!((results.passed, results.failed), (13, 1));
        assert_eq!(
            shown,
            [
                "measured: 12 of 13",
                "test b ... FAILED",
                "---- b stdout ----",
                "it panicked"
            ]
        );
    }
}
