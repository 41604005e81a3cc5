//! Licences of what we build on: each must be, or offer, one that an appliance can ship.

use crate::metadata::Metadata;

/// Permissive licences by their SPDX names.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Adds a complaint for every dependency whose licence is not acceptable.
pub fn check(metadata: &Metadata, wrong: &mut Vec<String>) {
    for package in metadata.others() {
        let found = package.license.as_deref().unwrap_or("none stated");
        if !is_acceptable(found) {
            wrong.push(format!(
                "{} {}: licence {found}, allowed: {}",
                package.name,
                package.version,
                ALLOWED.join(", ")
            ));
        }
    }
}

/// Whether an SPDX expression can be met with allowed licences. `/` is crates.io's old "or".
fn is_acceptable(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut place = 0;
    let acceptable = any_of(&words, &mut place);
    acceptable && place == words.len()
}

fn any_of(words: &[&str], place: &mut usize) -> bool {
    let mut acceptable = all_of(words, place);
    while words.get(*place) == Some(&"OR") {
        *place += 1;
        // Both sides are read, whatever the first one says.
        acceptable |= all_of(words, place);
    }
    acceptable
}

fn all_of(words: &[&str], place: &mut usize) -> bool {
    let mut acceptable = one(words, place);
    while words.get(*place) == Some(&"AND") {
        *place += 1;
        acceptable &= one(words, place);
    }
    acceptable
}

fn one(words: &[&str], place: &mut usize) -> bool {
    let Some(word) = words.get(*place) else {
        return false;
    };
    *place += 1;
    if *word == "(" {
        let acceptable = any_of(words, place);
        let closed = words.get(*place) == Some(&")");
        *place += 1;
        return acceptable && closed;
    }
    // An exception only adds permissions.
    if words.get(*place) == Some(&"WITH") {
        *place += 2;
    }
    ALLOWED.contains(word)
}

#[cfg(test)]
mod tests {
    use super::is_acceptable;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
        ] {
            assert!(is_acceptable(good), "{good}");
        }
        for bad in [
            "GPL-3.0-only",
            "MIT AND GPL-2.0-only",
            "none stated",
            "",
            "(MIT",
            "MIT Apache-2.0",
        ] {
            assert!(!is_acceptable(bad), "{bad}");
        }
    }
}
