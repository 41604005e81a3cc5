//! What PID 1 and its launcher tell each other; a report comes from a process that is about to run
//! a program that is not trusted.

#![no_main]

use kos_manifest::launch::{LaunchReport, LaunchSpec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = serde_json::from_slice::<LaunchReport>(data) {
        let text = serde_json::to_vec(&report).expect("a report is JSON");
        assert_eq!(
            serde_json::from_slice::<LaunchReport>(&text).ok(),
            Some(report)
        );
    }
    if let Ok(spec) = serde_json::from_slice::<LaunchSpec>(data) {
        let text = serde_json::to_vec(&spec).expect("a spec is JSON");
        assert_eq!(serde_json::from_slice::<LaunchSpec>(&text).ok(), Some(spec));
    }
});
