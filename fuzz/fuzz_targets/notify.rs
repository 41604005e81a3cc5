//! What a service says on its notification socket: any datagram gives a bounded status and flags.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../init/pid1/src/notify.rs"]
mod notify;

fuzz_target!(|data: &[u8]| {
    if let Some(status) = notify::parse(data).status {
        // What the console shows is a short line.
        assert!(status.chars().count() <= 256);
        assert!(!status.chars().any(char::is_control));
    }
});
