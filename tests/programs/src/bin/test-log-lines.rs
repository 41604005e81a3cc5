//! Prints numbered lines for ever, a few in a second: text and JSON objects by turns.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

/// Slow enough that an emulated machine keeps up, fast enough that a crash falls between lines.
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    let mut output = io::stdout().lock();
    for number in 1_u64.. {
        if number % 2 == 0 {
            writeln!(
                output,
                "{{\"level\":\"warn\",\"msg\":\"line {number}\",\"number\":{number}}}"
            )?;
        } else {
            writeln!(output, "line {number}")?;
        }
        output.flush()?;
        thread::sleep(PAUSE);
    }
    Ok(())
}
