//! A service that is broken from the start: says so and exits with the code in its argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = std::env::args()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(1);
    eprintln!("<3>exiting at once with code {code}");
    ExitCode::from(code)
}
