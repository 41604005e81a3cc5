//! What is to be pulled or pushed: a model of a registry, or a file somewhere.

use hyper::Uri;

use super::error::Error;

/// The registry of names that say none, and its usual parts.
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A registry has it.
    Registry(Reference),
    /// A GGUF file.
    File(File),
}

/// A model in a registry: `[host/][namespace/]model[:tag]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// With its port, if the name has one.
    pub host: String,
    /// The owner in the registry.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// Which of it.
    pub tag: String,
}

/// A GGUF file at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub uri: Uri,
    /// What the model will be called: the file's name without its end.
    pub name: String,
    /// What it must be, where the address says so: `…/x.gguf#sha256:HEX`.
    pub digest: Option<String>,
}

impl Source {
    /// Reads what a client wants pulled. `insecure` allows connections without TLS, and prefers
    /// them for names that do not say.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, Error> {
        let (address, digest) = match text.split_once('#') {
            Some((address, digest)) => (address, Some(digest.to_owned())),
            None => (text, None),
        };
        let is_file = address.contains("://") && address.ends_with(".gguf");
        match is_file {
            true => Ok(Self::File(File::parse(address, digest, insecure)?)),
            false => Ok(Self::Registry(Reference::parse(text, insecure)?)),
        }
    }
}

fn wrong(text: &str, allowed: &str) -> Error {
    let found: String = text.chars().take(200).collect();
    Error::Name(format!("invalid model name {found:?}, allowed: {allowed}"))
}

impl Reference {
    /// Reads a name.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, Error> {
        let error = || {
            wrong(
                text,
                "[host/][namespace/]model[:tag] of letters, digits and '-_.', or the address of \
                 a .gguf file",
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", _)) if !insecure => return Err(Error::Insecure),
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            Some(_) => return Err(error()),
            None if insecure => ("http", text),
            None => ("https", text),
        };
        let (path, last) = rest
            .rsplit_once('/')
            .map_or((None, rest), |(path, last)| (Some(path), last));
        let (model, tag) = last.split_once(':').unwrap_or((last, TAG));
        let (host, namespace) = match path {
            None => (HOST, NAMESPACE),
            Some(path) => path.rsplit_once('/').unwrap_or((HOST, path)),
        };
        let part = |text: &str, most: usize, more: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
            let first = text.bytes().next();
            first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && text.len() <= most
                && text.bytes().all(letter)
        };
        let fits = part(host, 350, ".-_:")
            && part(namespace, 80, "-_.")
            && part(model, 160, "-_.+@")
            && part(tag, 80, "-_.");
        match fits {
            true => Ok(Self {
                scheme,
                host: host.to_owned(),
                namespace: namespace.to_owned(),
                model: model.to_owned(),
                tag: tag.to_owned(),
            }),
            false => Err(error()),
        }
    }

    /// The name for the inference service.
    pub fn name(&self) -> String {
        let Self {
            host,
            namespace,
            model,
            tag,
            ..
        } = self;
        format!("{host}/{namespace}/{model}:{tag}")
    }

    /// Something of the model in the registry: `manifests/TAG`, `blobs/DIGEST`.
    pub fn uri(&self, rest: &str) -> Result<Uri, Error> {
        let Self {
            scheme,
            host,
            namespace,
            model,
            ..
        } = self;
        let text = format!("{scheme}://{host}/v2/{namespace}/{model}/{rest}");
        text.parse()
            .map_err(|_| wrong(&self.name(), "a host's name"))
    }
}

impl File {
    fn parse(address: &str, digest: Option<String>, insecure: bool) -> Result<Self, Error> {
        let uri: Uri = address
            .parse()
            .map_err(|_| wrong(address, "https://HOST/…/FILE.gguf"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if insecure => {}
            Some("http") => return Err(Error::Insecure),
            _ => return Err(wrong(address, "https://HOST/…/FILE.gguf")),
        }
        if let Some(digest) = &digest {
            check_digest(digest)?;
        }
        let file = uri.path().rsplit('/').next().unwrap_or_default();
        let stem = file.strip_suffix(".gguf").unwrap_or(file);
        let letter = |letter: char| match letter {
            '-' | '_' | '.' => letter,
            _ if letter.is_ascii_alphanumeric() => letter,
            _ => '-',
        };
        let name: String = stem.chars().map(letter).take(80).collect();
        let name = name.trim_start_matches(['-', '.']).to_owned();
        match name.is_empty() || uri.host().is_none() {
            true => Err(wrong(address, "https://HOST/…/FILE.gguf")),
            false => Ok(Self { uri, name, digest }),
        }
    }
}

/// Digests go into addresses: they are what they must be.
pub fn check_digest(text: &str) -> Result<(), Error> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match hex.len() == 64 && hex.bytes().all(digit) {
        true => Ok(()),
        false => {
            let found: String = text.chars().take(100).collect();
            Err(Error::Name(format!(
                "invalid digest {found:?}, allowed: sha256: and 64 hexadecimal digits"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_registries() {
        for (text, insecure, uri, name) in [
            (
                "llama3.2",
                false,
                "https://registry.ollama.ai/v2/library/llama3.2/manifests/latest",
                "registry.ollama.ai/library/llama3.2:latest",
            ),
            (
                "me/a:1b",
                false,
                "https://registry.ollama.ai/v2/me/a/manifests/1b",
                "registry.ollama.ai/me/a:1b",
            ),
            (
                "box:5000/me/a",
                true,
                "http://box:5000/v2/me/a/manifests/latest",
                "box:5000/me/a:latest",
            ),
            (
                "https://box/me/a",
                true,
                "https://box/v2/me/a/manifests/latest",
                "box/me/a:latest",
            ),
        ] {
            let Ok(Source::Registry(found)) = Source::parse(text, insecure) else {
                panic!("{text}");
            };
            let rest = format!("manifests/{}", found.tag);
            assert_eq!(found.uri(&rest).unwrap().to_string(), uri);
            assert_eq!(found.name(), name);
        }
        for wrong in [
            "",
            "a b",
            "../a",
            "a/b/c/d",
            "ftp://a/b/c",
            "a:",
            "a?b",
            "a/%2e",
        ] {
            assert!(
                matches!(Source::parse(wrong, false), Err(Error::Name(_))),
                "{wrong:?}"
            );
        }
        assert!(matches!(
            Source::parse("http://a/b/c", false),
            Err(Error::Insecure)
        ));
    }

    #[test]
    fn files_have_an_address_and_perhaps_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let text = format!("https://example.org/models/My%20Tiny.Q4_0.gguf#{digest}");
        let Ok(Source::File(file)) = Source::parse(&text, false) else {
            panic!();
        };
        assert_eq!(file.name, "My-20Tiny.Q4_0");
        assert_eq!(file.digest.as_deref(), Some(&*digest));
        assert_eq!(file.uri.path(), "/models/My%20Tiny.Q4_0.gguf");
        for wrong in [
            "https://a/x.gguf#md5:1",
            "ftp://a/x.gguf",
            "https:///x.gguf",
        ] {
            assert!(
                matches!(Source::parse(wrong, false), Err(Error::Name(_))),
                "{wrong:?}"
            );
        }
        let plain = Source::parse("http://a/x.gguf", false);
        assert!(matches!(plain, Err(Error::Insecure)));
    }
}
