//! The kernel's command line, which on a board stands in a file that anybody with the card can
//! write.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../init/pid1/src/cmdline.rs"]
mod cmdline;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let arguments = cmdline::Arguments::parse(text);
        assert!(arguments.complaints.len() <= text.split_ascii_whitespace().count());
    }
});
