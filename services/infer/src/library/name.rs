//! Names of models: `[host/][namespace/]model[:tag]`, as Ollama has them.

use std::fmt;
use std::path::PathBuf;

/// The registry of names that say none.
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// A model's whole name. Each part is a file's name: it has no slash and does not begin with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

impl Name {
    /// Reads a name; None when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        let (rest, last) = match text.rsplit_once('/') {
            Some((rest, last)) => (Some(rest), last),
            None => (None, text),
        };
        let (model, tag) = last.split_once(':').unwrap_or((last, TAG));
        let (host, namespace) = match rest.map(|rest| rest.rsplit_once('/').unwrap_or((HOST, rest)))
        {
            Some(both) => both,
            None => (HOST, NAMESPACE),
        };
        let fits = part(host, 350, ".-_:")
            && part(namespace, 80, "-_.")
            && part(model, 160, "-_.+@")
            && part(tag, 80, "-_.");
        fits.then(|| Self {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// From a manifest's place below the manifests' directory.
    pub(super) fn of_path(parts: [&str; 4]) -> Option<Self> {
        let [host, namespace, model, tag] = parts;
        Self::parse(&format!("{host}/{namespace}/{model}:{tag}"))
    }

    /// Where its manifest is, below the manifests' directory.
    pub(super) fn path(&self) -> PathBuf {
        [&self.host, &self.namespace, &self.model, &self.tag]
            .iter()
            .collect()
    }

    /// The stem of the plain file that may hold it: only names without a registry have one.
    pub(super) fn file_stem(&self) -> Option<String> {
        let plain = self.host == HOST && self.namespace == NAMESPACE;
        plain.then(|| match self.tag.as_str() {
            TAG => self.model.clone(),
            tag => format!("{}:{tag}", self.model),
        })
    }
}

/// As short as it can be, but with its tag.
impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != HOST {
            write!(out, "{}/", self.host)?;
        }
        if self.host != HOST || self.namespace != NAMESPACE {
            write!(out, "{}/", self.namespace)?;
        }
        write!(out, "{}:{}", self.model, self.tag)
    }
}

fn part(text: &str, most: usize, more: &str) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= most
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_ollama_reads_them() {
        for (text, shown, path) in [
            ("a", "a:latest", "registry.ollama.ai/library/a/latest"),
            ("a:1b", "a:1b", "registry.ollama.ai/library/a/1b"),
            ("me/a", "me/a:latest", "registry.ollama.ai/me/a/latest"),
            ("box:5000/me/a:x", "box:5000/me/a:x", "box:5000/me/a/x"),
            (
                "http://h/library/a",
                "h/library/a:latest",
                "h/library/a/latest",
            ),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!(name.to_string(), shown);
            assert_eq!(name.path(), PathBuf::from(path));
            assert_eq!(Name::parse(shown), Some(name));
        }
        for wrong in [
            "", "/", "a/", "/a", "../a", "a:", "a:b:c", "a/b/c/d", "a b", ".a", "a\0",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong:?}");
        }
    }
}
