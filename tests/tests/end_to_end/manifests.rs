//! A manifest that is wrong is found when the image is built, and the error helps.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kos_tests::environment;

const GOOD: &str = r#"name = "sample"
description = "A sample"
program = "/bin/kos-net"
uid = 1501

[limits]
memory = "32M"
"#;

/// Runs the check that the image build runs, on these manifests: its success and its words.
fn check(manifests: &[(&str, &str)]) -> Result<(bool, String)> {
    let directory = tempfile::tempdir()?;
    for (name, text) in manifests {
        fs::write(directory.path().join(name), text)?;
    }
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/seccomp");
    let output = Command::new(environment::xtask()?)
        .arg("check-services")
        .arg("--seccomp")
        .arg(image)
        .arg(directory.path())
        .output()
        .context("cannot run xtask")?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), words))
}

#[test]
fn a_good_manifest_passes() -> Result<()> {
    let (passed, words) = check(&[("sample.toml", GOOD)])?;
    assert!(passed, "{words}");
    Ok(())
}

#[test]
fn a_typo_in_a_key_is_shown_with_file_line_key_and_what_is_allowed() -> Result<()> {
    let (passed, words) = check(&[("sample.toml", &GOOD.replace("memory", "memroy"))])?;
    assert!(!passed);
    for part in ["sample.toml:7:", "memroy", "allowed", "memory"] {
        assert!(words.contains(part), "{part} is not in: {words}");
    }
    Ok(())
}

#[test]
fn a_value_that_is_out_of_range_is_shown_with_what_is_allowed() -> Result<()> {
    let (passed, words) = check(&[("sample.toml", &GOOD.replace("\"32M\"", "\"32 potatoes\""))])?;
    assert!(!passed);
    for part in ["sample.toml:7:", "limits.memory", "32 potatoes", "allowed"] {
        assert!(words.contains(part), "{part} is not in: {words}");
    }
    Ok(())
}

#[test]
fn an_order_in_a_circle_is_refused() -> Result<()> {
    let first = format!("after = [\"other\"]\n{GOOD}");
    let second = format!("after = [\"sample\"]\n{GOOD}")
        .replace("\"A sample\"", "\"Another\"")
        .replace("name = \"sample\"", "name = \"other\"")
        .replace("1501", "1502");
    let (passed, words) = check(&[("sample.toml", &first), ("other.toml", &second)])?;
    assert!(!passed);
    assert!(
        words.contains("circle") && words.contains("sample"),
        "{words}"
    );
    Ok(())
}
