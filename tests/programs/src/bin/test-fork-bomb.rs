//! A fork bomb: every copy starts copies of itself until the kernel refuses, and goes on trying.
//!
//! Its cgroup must hold it; nothing here holds back.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Between two refused attempts: the point is the number of processes, not to burn the processor
/// of the machine that the test runs on.
const PAUSE: Duration = Duration::from_millis(50);

fn main() {
    let first = std::env::args().nth(1).is_none();
    if first {
        println!("fork bomb starts");
    }
    let mut refused = false;
    loop {
        // The child is never waited for: that is what a bomb does.
        let spawned = Command::new("/proc/self/exe")
            .arg("copy")
            .stdin(Stdio::null())
            .spawn();
        if let Err(error) = spawned {
            if first && !refused {
                println!("fork refused: {error}");
                refused = true;
            }
            thread::sleep(PAUSE);
        }
    }
}
