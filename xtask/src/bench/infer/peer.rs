//! llama.cpp, built from the source that PyPI's `llama-cpp-python` carries: what ours is measured
//! beside. It is kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::hostpackages;
use crate::stage::Stages;
use crate::workspace::Workspace;

/// The version whose llama.cpp is built.
const VERSION: &str = "0.3.36";

/// Where it is built, and how: GCC 12 does not know that loading the shape of AMX's tiles reads more
/// than eight bytes, leaves out what was written to the others, and llama.cpp dies of the first tile.
const BUILD: &str = "build-all-stores";
const FLAGS: &str = "-fno-tree-dse -fno-dse";

/// Its `llama-bench`.
pub struct LlamaCpp {
    program: PathBuf,
}

/// One line of what it prints with `-o json`.
#[derive(Deserialize)]
struct Line {
    n_prompt: usize,
    n_gen: usize,
    samples_ts: Vec<f64>,
}

impl LlamaCpp {
    /// Builds it, if the cache has none.
    pub fn build(workspace: &Workspace, stages: &mut Stages) -> Result<LlamaCpp> {
        let home = workspace.cache()?.join("llama.cpp").join(VERSION);
        let program = home.join(BUILD).join("bin/llama-bench");
        if program.exists() {
            return Ok(LlamaCpp { program });
        }
        hostpackages::ensure(stages, &[hostpackages::LLAMA_CPP])?;
        stages.run("llama.cpp", |stage| {
            std::fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
                .args(["--no-binary", "llama-cpp-python", "--dest"])
                .arg(&home)
                .arg(format!("llama-cpp-python=={VERSION}"));
            stage.run(&mut pip)?;
            let mut tar = Command::new("tar");
            tar.arg("xf")
                .arg(home.join(format!("llama_cpp_python-{VERSION}.tar.gz")))
                .arg("-C")
                .arg(&home);
            stage.run(&mut tar)?;
            let source = home.join(format!("llama_cpp_python-{VERSION}/vendor/llama.cpp"));
            let mut cmake = Command::new("cmake");
            cmake.arg("-S").arg(source).arg("-B").arg(home.join(BUILD));
            cmake.args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]);
            for language in ["C", "CXX"] {
                cmake.arg(format!("-DCMAKE_{language}_FLAGS={FLAGS}"));
            }
            for part in ["CURL", "OPENSSL", "BUILD_TESTS", "BUILD_SERVER"] {
                cmake.arg(format!("-DLLAMA_{part}=OFF"));
            }
            stage.run(&mut cmake)?;
            let mut ninja = Command::new("ninja");
            stage.run(ninja.arg("-C").arg(home.join(BUILD)).arg("llama-bench"))
        })?;
        ensure!(program.exists(), "no {} came of it", program.display());
        Ok(LlamaCpp { program })
    }

    /// Tokens each second of one round: reading `prompt` tokens, and generating `answer`.
    pub fn round(
        &self,
        file: &Path,
        threads: usize,
        prompt: usize,
        answer: usize,
    ) -> Result<(f64, f64)> {
        let output = Command::new(&self.program)
            .arg("-m")
            .arg(file)
            .args(["-o", "json", "-r", "1", "-t", &threads.to_string()])
            .args(["-p", &prompt.to_string(), "-n", &answer.to_string()])
            .output()
            .context("run llama-bench")?;
        ensure!(
            output.status.success(),
            "llama-bench: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let lines: Vec<Line> =
            serde_json::from_slice(&output.stdout).context("read what llama-bench printed")?;
        let rate = |wanted: fn(&Line) -> bool| {
            let line = lines.iter().find(|line| wanted(line));
            let rate = line.and_then(|line| line.samples_ts.first());
            rate.copied().context("llama-bench printed no rate")
        };
        Ok((
            rate(|line| line.n_prompt > 0)?,
            rate(|line| line.n_gen > 0)?,
        ))
    }
}
