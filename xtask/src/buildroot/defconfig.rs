//! A defconfig of image/buildroot: its symbols, and what a board asks of them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::packages;
use crate::board::Board;

/// How a defconfig says that something is off; here it is a value like any other.
const OFF: &str = "n";
/// What stands for image/buildroot in a value.
pub const EXTERNAL: &str = "$(BR2_EXTERNAL_KOS_PATH)";
/// The symbols of our packages begin so.
const PACKAGE: &str = "BR2_PACKAGE_KOS_";

/// Symbols and their values, without quotes.
#[derive(Debug, Default)]
pub struct Defconfig(BTreeMap<String, String>);

/// The defconfig's name as `make` takes it.
pub fn name(board: &Board) -> String {
    format!("kos_{}_defconfig", board.name.replace('-', "_"))
}

impl Defconfig {
    /// Reads a defconfig's text.
    pub fn parse(text: &str) -> Result<Defconfig> {
        let mut symbols = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let off = line
                .strip_prefix("# ")
                .and_then(|rest| rest.strip_suffix(" is not set"));
            let (symbol, value) = match off {
                Some(symbol) => (symbol, OFF),
                None => match line.split_once('=') {
                    Some((symbol, value)) => (symbol, value.trim_matches('"')),
                    None => bail!(
                        "line {}: found \"{line}\", allowed: BR2_X=value and # BR2_X is not set",
                        index + 1
                    ),
                },
            };
            symbols.insert(symbol.to_owned(), value.to_owned());
        }
        Ok(Defconfig(symbols))
    }

    /// A symbol's value; nothing where the defconfig leaves it to its default.
    pub fn get(&self, symbol: &str) -> Option<&str> {
        self.0.get(symbol).map(String::as_str)
    }

    /// Every file that a value names in the external tree or beside it.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.0
            .values()
            .flat_map(|value| value.split(' '))
            .filter_map(|word| word.strip_prefix(EXTERNAL)?.strip_prefix('/'))
    }

    /// Adds a complaint for every symbol that does not say what the board's file says.
    pub fn compare(&self, board: &Board, wrong: &mut Vec<String>) {
        let name = name(board);
        let mut expect = |symbol: &str, value: Option<&str>, why: &str| {
            let found = self.get(symbol);
            if found != value {
                wrong.push(format!(
                    "{name}: {symbol}: found {}, allowed: {} ({why})",
                    found.unwrap_or("nothing"),
                    value.unwrap_or("nothing")
                ));
            }
        };
        let arch = format!("BR2_{}", board.arch.name());
        expect(&arch, Some("y"), "the board's arch");
        expect("BR2_LINUX_KERNEL_DEFCONFIG", Some("tiny"), "external.mk");
        let fragments: Vec<String> = board
            .fragments
            .iter()
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .map(|file| format!("{EXTERNAL}/../kernel/{file}"))
            .collect();
        expect(
            "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES",
            Some(&fragments.join(" ")),
            "the board's kernel.fragments",
        );
        let trees = board.device_trees.join(" ");
        expect(
            "BR2_LINUX_KERNEL_INTREE_DTS_NAME",
            Some(trees.as_str()).filter(|trees| !trees.is_empty()),
            "the board's kernel.device-trees",
        );
        expect("BR2_INIT_NONE", Some("y"), "PID 1 is ours");
        expect("BR2_PACKAGE_BUSYBOX", Some(OFF), "there is no shell");
        let mut found: Vec<&str> = self
            .0
            .keys()
            .map(String::as_str)
            .filter(|symbol| symbol.starts_with(PACKAGE))
            .collect();
        let mut wanted: Vec<String> = packages().map(symbol).collect();
        found.sort_unstable();
        wanted.sort();
        if found != wanted {
            wrong.push(format!(
                "{name}: our packages: found {}, allowed: {}",
                found.join(" "),
                wanted.join(" ")
            ));
        }
    }
}

/// A package's symbol.
pub fn symbol(package: &str) -> String {
    format!("BR2_PACKAGE_{}", package.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    fn complaints(change: impl Fn(&str) -> String) -> Vec<String> {
        let workspace = Workspace::find().unwrap();
        let board = Board::read(&workspace, "rpi5").unwrap();
        let path = super::super::external::directory(&workspace)
            .join("configs")
            .join(name(&board));
        let text = change(&std::fs::read_to_string(path).unwrap());
        let mut wrong = Vec::new();
        Defconfig::parse(&text).unwrap().compare(&board, &mut wrong);
        wrong
    }

    #[test]
    fn what_differs_from_the_board_is_named() {
        assert_eq!(complaints(str::to_owned), Vec::<String>::new());
        for (from, to, part) in [
            (
                "BR2_aarch64=y",
                "BR2_x86_64=y",
                "BR2_aarch64: found nothing",
            ),
            ("/../kernel/common.config ", " ", "CONFIG_FRAGMENT_FILES"),
            ("bcm2712-rpi-5-b", "bcm2711-rpi-4-b", "INTREE_DTS_NAME"),
            ("BR2_PACKAGE_KOS_NET=y\n", "", "our packages"),
            (
                "# BR2_PACKAGE_BUSYBOX is not set\n",
                "",
                "there is no shell",
            ),
        ] {
            let found = complaints(|text| {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            });
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(part), "{found:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_symbol_is_refused() {
        let error = Defconfig::parse("BR2_x86_64=y\n# why\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: found"), "{error}");
    }
}
