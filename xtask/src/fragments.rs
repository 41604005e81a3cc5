//! The kernel's configuration: fragments merged over a base, and the proof that they were taken.
//!
//! Kconfig drops a line silently when the option is gone or a dependency is missing; here that is
//! an error that names the line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What the fragments ask for, by option; a later fragment replaces an earlier one's line.
#[derive(Debug, Default)]
pub struct Fragments {
    wanted: BTreeMap<String, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    value: String,
    file: PathBuf,
    line: usize,
}

/// An option that is off: Kconfig writes it as a comment, here it is a value like any other.
const OFF: &str = "n";

impl Fragments {
    /// Reads the files in merging order.
    pub fn read(files: &[PathBuf]) -> Result<Fragments> {
        let mut fragments = Fragments::default();
        for file in files {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("read the fragment {}", file.display()))?;
            fragments.add(file, &text)?;
        }
        Ok(fragments)
    }

    fn add(&mut self, file: &Path, text: &str) -> Result<()> {
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let Some((option, value)) = parse_line(line) else {
                if line.trim().is_empty() || line.starts_with('#') {
                    continue;
                }
                bail!(
                    "{}:{line_number}: neither `CONFIG_X=value` nor `# CONFIG_X is not set` nor a \
                     comment: {line}",
                    file.display()
                );
            };
            let wanted = Wanted {
                value: value.to_owned(),
                file: file.to_owned(),
                line: line_number,
            };
            if let Some(earlier) = self.wanted.insert(option.to_owned(), wanted)
                && earlier.file == file
            {
                bail!(
                    "{}:{line_number}: {option} is set a second time (first in line {})",
                    file.display(),
                    earlier.line
                );
            }
        }
        Ok(())
    }

    /// The base configuration with the fragments' lines in place of its own.
    pub fn merge_over(&self, base: &str) -> String {
        let mut merged: String = base
            .lines()
            .filter(|line| !parse_line(line).is_some_and(|(o, _)| self.wanted.contains_key(o)))
            .flat_map(|line| [line, "\n"])
            .collect();
        for (option, wanted) in &self.wanted {
            // Writing to a String cannot fail.
            let _ = match wanted.value.as_str() {
                OFF => writeln!(merged, "# {option} is not set"),
                value => writeln!(merged, "{option}={value}"),
            };
        }
        merged
    }

    /// Fails with every line that the final configuration did not take.
    pub fn check_taken(&self, final_config: &str) -> Result<()> {
        let taken: BTreeMap<&str, &str> = final_config.lines().filter_map(parse_line).collect();
        let mut refused = String::new();
        for (option, wanted) in &self.wanted {
            let got = taken.get(option.as_str()).copied().unwrap_or(OFF);
            if got != wanted.value {
                let _ = writeln!(
                    refused,
                    "  {}:{}: {option}: wanted {}, got {got}",
                    wanted.file.display(),
                    wanted.line,
                    wanted.value
                );
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        bail!(
            "the kernel's final configuration did not take these lines (an option that is gone, \
             that another option selects, or whose dependency is off):\n{refused}"
        )
    }
}

fn parse_line(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# ")
        && let Some(option) = rest.strip_suffix(" is not set")
        && option.starts_with("CONFIG_")
    {
        return Some((option, OFF));
    }
    line.split_once('=').filter(|(option, _)| {
        option.starts_with("CONFIG_")
            && option
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments(texts: &[&str]) -> Result<Fragments> {
        let mut fragments = Fragments::default();
        for (index, text) in texts.iter().enumerate() {
            fragments.add(Path::new(&format!("{index}.config")), text)?;
        }
        Ok(fragments)
    }

    #[test]
    fn a_later_fragment_wins_and_the_base_gives_way() {
        let fragments = fragments(&[
            "# a comment\nCONFIG_A=y\nCONFIG_B=\"x\"\n",
            "# CONFIG_A is not set\n\n",
        ])
        .unwrap();
        let merged = fragments.merge_over("CONFIG_A=y\nCONFIG_C=1\n# CONFIG_B is not set\n");
        assert_eq!(
            merged,
            "CONFIG_C=1\n# CONFIG_A is not set\nCONFIG_B=\"x\"\n"
        );
        fragments.check_taken(&merged).unwrap();
    }

    #[test]
    fn a_line_that_was_not_taken_is_named() {
        let fragments = fragments(&["CONFIG_A=y\n# why\n# CONFIG_B is not set\n"]).unwrap();
        let error = fragments
            .check_taken("CONFIG_B=y\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("0.config:1: CONFIG_A: wanted y, got n"),
            "{error}"
        );
        assert!(
            error.contains("0.config:3: CONFIG_B: wanted n, got y"),
            "{error}"
        );
    }

    #[test]
    fn nonsense_and_repetition_are_refused_with_their_line() {
        let error = fragments(&["CONFIG_A=y\nCONFIG A=y\n"])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("0.config:2: neither"), "{error}");
        let error = fragments(&["CONFIG_A=y\nCONFIG_A=m\n"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("0.config:2: CONFIG_A is set a second time"),
            "{error}"
        );
    }
}
