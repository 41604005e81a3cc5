//! The table of attacks in `docs/isolation.md`, held against the suites: every test is in the table,
//! every test of the table exists, and every attacking service is used by a test.

use std::collections::BTreeSet;

use crate::sources::Source;

const PAGE: &str = "docs/isolation.md";
const TABLE: &str = "## Every attack";
/// The suites whose every test is an attack.
const SUITES: [&str; 4] = [
    "tests/tests/end_to_end/attacks.rs",
    "tests/tests/end_to_end/attacks_by_flood.rs",
    "tests/tests/end_to_end/containment.rs",
    "tests/tests/end_to_end/isolation.rs",
];
/// How the attackers' manifests begin.
const ATTACKERS: [&str; 2] = ["tests/services/attack-", "tests/services/flood-"];

/// Finds what the page and the suites do not have in common.
pub fn check(sources: &[Source], wrong: &mut Vec<String>) {
    let text = |path: &str| {
        let source = sources.iter().find(|source| source.path == path);
        source
            .and_then(|source| source.text.as_deref())
            .unwrap_or("")
    };
    let suites: Vec<&str> = SUITES.iter().map(|path| text(path)).collect();
    let tests: BTreeSet<&str> = suites.iter().copied().flat_map(tests).collect();
    let told: BTreeSet<&str> = told(text(PAGE)).collect();
    for missing in tests.difference(&told) {
        wrong.push(format!(
            "{PAGE}: the table of attacks lacks the test {missing}"
        ));
    }
    for unknown in told.difference(&tests) {
        wrong.push(format!(
            "{PAGE}: the table of attacks names {unknown}, which is no test of {}",
            SUITES.join(", ")
        ));
    }
    for source in sources {
        let attacker = ATTACKERS.iter().any(|start| source.path.starts_with(start));
        let name = source
            .path
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".toml"));
        let Some(name) = name.filter(|_| attacker) else {
            continue;
        };
        let quoted = format!("\"{name}\"");
        if !suites.iter().any(|suite| suite.contains(&quoted)) {
            wrong.push(format!("{}: no test starts {name}", source.path));
        }
    }
}

/// The functions that follow `#[test]`.
fn tests(suite: &str) -> impl Iterator<Item = &str> {
    suite.split("#[test]\n").skip(1).filter_map(|rest| {
        let name = rest.trim_start().strip_prefix("fn ")?;
        name.split('(').next()
    })
}

/// The names in the last column of the table.
fn told(page: &str) -> impl Iterator<Item = &str> {
    let rest = page.split_once(TABLE).map_or("", |(_, rest)| rest);
    let section = rest.split("\n## ").next().unwrap_or("");
    section.lines().filter_map(|line| {
        let cells = line.strip_prefix('|')?.trim_end().strip_suffix('|')?;
        let name = cells.rsplit('|').next()?.trim();
        name.strip_prefix('`')?.strip_suffix('`')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            bytes: text.len(),
            text: Some(text.to_owned()),
        }
    }

    #[test]
    fn what_only_one_side_has_is_told() {
        let page = "x\n## Every attack\n\n| a | b | test |\n|---|---|---|\n| x `y` | z | `one` |\n\
                    | x | z | `gone` |\n\n## Beside\n| a | b | `other` |\n";
        let suite = "#[test]\nfn one() {}\n#[test]\nfn two() -> R { start(\"attack-used\") }\n";
        let sources = [
            source(PAGE, page),
            source(SUITES[0], suite),
            source("tests/services/attack-used.toml", ""),
            source("tests/services/attack-idle.toml", ""),
            source("tests/services/other.toml", ""),
        ];
        let mut wrong = Vec::new();
        check(&sources, &mut wrong);
        assert_eq!(wrong.len(), 3, "{wrong:#?}");
        for (line, part) in wrong
            .iter()
            .zip(["lacks the test two", "names gone", "attack-idle"])
        {
            assert!(line.contains(part), "{line}");
        }
    }
}
