//! What a service says on its notification socket: any datagram is a few bounded notifications.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../init/pid1/src/notify.rs"]
mod notify;

fuzz_target!(|data: &[u8]| {
    // Each key counts once, whatever is repeated.
    assert!(notify::parse(data).len() <= 16);
});
