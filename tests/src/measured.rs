//! Numbers that people want to see of a test that passes.

use std::io::Write;

/// Says what was measured, in one line that `cargo xtask test` shows.
pub fn measured(what: &str) {
    // Past the harness, which shows what a test prints only when it fails. A closed standard error
    // is no failure of the test.
    let _ = std::io::stderr().write_all(format!("measured: {what}\n").as_bytes());
}
