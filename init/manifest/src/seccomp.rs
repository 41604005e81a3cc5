//! Named sets of system calls: policy as data (`image/seccomp/*.toml`), resolved to plain names.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{ManifestError, parse_toml};

/// The sets of an image, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyscallSets {
    sets: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawSet {
    name: String,
    #[serde(rename = "description")]
    _description: String,
    #[serde(default)]
    include: Vec<String>,
    syscalls: Vec<String>,
}

impl SyscallSets {
    /// Parses the files of a directory of sets; each is `(file name, text)`.
    ///
    /// # Errors
    /// Bad TOML, two sets of one name, an include that does not exist or that runs in a circle.
    pub fn parse<I>(files: I) -> Result<Self, ManifestError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let mut raw = BTreeMap::new();
        for (file, text) in files {
            let set: RawSet = parse_toml(&file, &text)?;
            let name = set.name.clone();
            if raw.insert(name.clone(), (file.clone(), set)).is_some() {
                return Err(error(
                    &file,
                    "name",
                    format!("found '{name}' a second time"),
                ));
            }
        }
        let mut sets = BTreeMap::new();
        for name in raw.keys() {
            let mut calls = BTreeSet::new();
            collect(&raw, name, &mut Vec::new(), &mut calls)?;
            sets.insert(name.clone(), calls);
        }
        Ok(SyscallSets { sets })
    }

    /// The calls of one set, its includes resolved.
    pub fn get(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.sets.get(name)
    }

    /// The names of all sets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str)
    }
}

fn collect<'a>(
    raw: &'a BTreeMap<String, (String, RawSet)>,
    name: &'a str,
    path: &mut Vec<&'a str>,
    calls: &mut BTreeSet<String>,
) -> Result<(), ManifestError> {
    let Some((file, set)) = raw.get(name) else {
        let from = path.last().and_then(|parent| raw.get(*parent));
        let file = from.map_or("", |(file, _)| file.as_str());
        let allowed: Vec<&str> = raw.keys().map(String::as_str).collect();
        let message = format!("found '{name}', allowed: {}", allowed.join(", "));
        return Err(error(file, "include", message));
    };
    if path.contains(&name) {
        let circle = format!("{} -> {name}", path.join(" -> "));
        return Err(error(
            file,
            "include",
            format!("runs in a circle: {circle}"),
        ));
    }
    path.push(name);
    for include in &set.include {
        collect(raw, include, path, calls)?;
    }
    path.pop();
    calls.extend(set.syscalls.iter().cloned());
    Ok(())
}

fn error(file: &str, key: &str, message: String) -> ManifestError {
    ManifestError {
        file: file.to_owned(),
        place: None,
        key: key.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, include: &str, calls: &str) -> (String, String) {
        let text = format!(
            "name = \"{name}\"\ndescription = \"d\"\ninclude = [{include}]\nsyscalls = [{calls}]\n"
        );
        (format!("{name}.toml"), text)
    }

    #[test]
    fn includes_are_resolved() {
        let sets = SyscallSets::parse([file("a", "\"b\"", "\"read\""), file("b", "", "\"write\"")])
            .unwrap();
        let calls: Vec<&str> = sets.get("a").unwrap().iter().map(String::as_str).collect();
        assert_eq!(calls, ["read", "write"]);
    }

    #[test]
    fn a_circle_is_refused_with_its_path() {
        let error =
            SyscallSets::parse([file("a", "\"b\"", ""), file("b", "\"a\"", "")]).unwrap_err();
        assert!(error.message.contains("a -> b -> a"), "{error}");
    }

    #[test]
    fn an_unknown_include_names_what_is_allowed() {
        let error = SyscallSets::parse([file("a", "\"c\"", "")]).unwrap_err();
        assert!(
            error.to_string().contains("found 'c', allowed: a"),
            "{error}"
        );
    }
}
