//! Prints far more than a log ring holds, as fast as it can, then stays.

use std::io::{self, BufWriter, Write};
use std::thread;

const LINES: usize = 20_000;

fn main() -> io::Result<()> {
    let mut output = BufWriter::new(io::stdout().lock());
    for number in 1..=LINES {
        writeln!(output, "flood line {number:06} {}", "x".repeat(100))?;
    }
    // One line beyond every limit: it must be cut, not kept whole and not fatal.
    writeln!(output, "long {}", "y".repeat(1024 * 1024))?;
    writeln!(output, "flood ends")?;
    output.flush()?;
    loop {
        thread::park();
    }
}
