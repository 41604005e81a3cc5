//! Service manifests and sets of system calls, as an owner could write them: whatever the text,
//! the answer is a set that holds together or an error of one line that names its file.

#![no_main]

use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::ServiceSet;
use libfuzzer_sys::fuzz_target;

const DEFAULT: &str = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\", \"write\"]\n";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A form feed starts the next file, so that one input can hold services that name each other;
    // what stands behind a vertical tab is the owner's.
    let (image, owner) = text.split_once('\u{b}').unwrap_or((text, ""));
    let files = |text: &str| -> Vec<(String, String)> {
        text.split('\u{c}')
            .filter(|text| !text.is_empty())
            .map(|text| (file_name(text), text.to_owned()))
            .collect()
    };
    let own = ("default.toml".to_owned(), DEFAULT.to_owned());
    let sets = SyscallSets::parse([own]).expect("the default set is right");
    match ServiceSet::parse(files(image), &sets) {
        Err(error) => assert!(!error.to_string().is_empty() && !error.file.is_empty()),
        Ok(before) => match ServiceSet::parse_layers(files(image), files(owner), &sets) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(after) => drop(ServiceSet::changes(&before, &after)),
        },
    }
    if let Err(error) = SyscallSets::parse([("fuzz.toml".to_owned(), text.to_owned())]) {
        assert!(error.to_string().starts_with("fuzz.toml"));
    }
});

/// A file is called as the service in it says, or most inputs would end at the first check.
fn file_name(text: &str) -> String {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .unwrap_or("fuzz");
    format!("{name}.toml")
}
