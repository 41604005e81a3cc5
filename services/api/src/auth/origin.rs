//! Which `Host` and which origin a request may name.
//!
//! A page of a foreign site can make the browser of someone on the same network send requests
//! here. It cannot choose `Host` (unless it rebinds its own name to this box's address, which the
//! allowed names refuse) and it cannot hide its origin.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, Method, header};

/// Names that every box answers to, beside its own and every IP address.
const NAMES: [&str; 3] = ["localhost", "kos", "kos.local"];

/// Whether the `Host` header names this box.
pub fn host_allowed(host: &str, hostname: &str) -> bool {
    let Some(name) = name_of(host) else {
        return false;
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let own = hostname.to_ascii_lowercase();
    is_address(&name)
        || NAMES.contains(&name.as_str())
        || (!own.is_empty() && (name == own || name == format!("{own}.local")))
}

/// What [`host_allowed`] takes, for the error message.
pub fn allowed_names(hostname: &str) -> String {
    let mut names = vec!["an IP address".to_owned()];
    names.extend(NAMES.map(str::to_owned));
    if !hostname.is_empty() && !NAMES.contains(&hostname) {
        names.push(hostname.to_owned());
        names.push(format!("{hostname}.local"));
    }
    names.join(", ")
}

/// Whether a request comes from a page of this box, or from no page at all.
pub fn same_site(method: &Method, headers: &HeaderMap, host: &str) -> bool {
    if method.is_safe() {
        return true;
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        return origin.to_str().is_ok_and(|origin| origin_is(origin, host));
    }
    match headers.get("sec-fetch-site") {
        None => true,
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
    }
}

fn origin_is(origin: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let origin = origin.to_ascii_lowercase();
    let (origin, default_port) = if let Some(rest) = origin.strip_prefix("http://") {
        (rest, ":80")
    } else if let Some(rest) = origin.strip_prefix("https://") {
        (rest, ":443")
    } else {
        return false;
    };
    let without_port = |text: &str| text.strip_suffix(default_port).map(str::to_owned);
    without_port(origin).unwrap_or_else(|| origin.to_owned())
        == without_port(&host).unwrap_or_else(|| host.clone())
}

/// The name in a `Host` header, without its port.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = if host.starts_with('[') {
        let end = host.find(']')?;
        host.split_at(end + 1)
    } else {
        host.split_at(host.find(':').unwrap_or(host.len()))
    };
    let port_fits = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_digit()),
    };
    (port_fits && !name.is_empty()).then_some(name)
}

fn is_address(name: &str) -> bool {
    match name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => matches!(name.parse::<IpAddr>(), Ok(IpAddr::V4(_))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_own_names_are_allowed() {
        for host in [
            "127.0.0.1:8080",
            "192.168.1.20",
            "[::1]:80",
            "[fe80::1]",
            "localhost:8080",
            "LOCALHOST",
            "kos",
            "kos.local:80",
            "attic",
            "Attic.local",
            "kos.",
        ] {
            assert!(host_allowed(host, "attic"), "{host}");
        }
    }

    #[test]
    fn foreign_names_are_refused() {
        for host in [
            "",
            ":80",
            "evil.example",
            "127.0.0.1.evil.example",
            "kos.local.evil.example",
            "localhost:80@evil.example",
            "[::1].evil.example",
            "[::1",
            "::1",
            "[evil]",
            ".local",
        ] {
            assert!(!host_allowed(host, "attic"), "{host}");
        }
        assert!(!host_allowed(".local", ""));
    }

    #[test]
    fn changing_requests_must_come_from_here() {
        let ask = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            same_site(&Method::POST, &headers, "kos.local:8080")
        };
        assert!(ask("origin", "http://kos.local:8080"));
        assert!(ask("origin", "http://KOS.local:8080"));
        assert!(!ask("origin", "http://kos.local"));
        assert!(!ask("origin", "http://evil.example"));
        assert!(!ask("origin", "null"));
        assert!(ask("sec-fetch-site", "same-origin"));
        assert!(ask("sec-fetch-site", "none"));
        assert!(!ask("sec-fetch-site", "cross-site"));
        assert!(!ask("sec-fetch-site", "same-site"));
        assert!(same_site(&Method::POST, &HeaderMap::new(), "kos"));
        assert!(origin_is("http://kos", "kos:80"));
        assert!(origin_is("https://kos:443", "kos"));
    }
}
