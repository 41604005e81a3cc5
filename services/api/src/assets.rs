//! The console's files, compiled in. They are public: the pairing page needs them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: String,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        asset(
            $name,
            $kind,
            include_bytes!(concat!("../assets/", $name)).as_slice(),
        )
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    vec![
        asset!("htmx.min.js", "text/javascript; charset=utf-8"),
        asset!("hx-sse.min.js", "text/javascript; charset=utf-8"),
        asset!("console.js", "text/javascript; charset=utf-8"),
        asset!("chat.js", "text/javascript; charset=utf-8"),
        asset!("editor.js", "text/javascript; charset=utf-8"),
        asset!("journal.js", "text/javascript; charset=utf-8"),
        asset!("lines.js", "text/javascript; charset=utf-8"),
        asset!("log.js", "text/javascript; charset=utf-8"),
        asset!("models.js", "text/javascript; charset=utf-8"),
        asset!("service.js", "text/javascript; charset=utf-8"),
        asset!("return.js", "text/javascript; charset=utf-8"),
        asset!("kos.css", "text/css; charset=utf-8"),
        asset!("icon.svg", "image/svg+xml"),
    ]
});

fn asset(name: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    let digest = Sha256::digest(bytes);
    let tag: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Asset {
        name,
        kind,
        bytes,
        tag: format!("\"{tag}\""),
    }
}

/// `GET /assets/{name}`
pub async fn get(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Kept by browsers, but asked for each time: after an update of the image the old one is wrong.
    let caching = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, asset.tag.as_str()),
    ];
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tag| tag.to_str().ok())
        .is_some_and(|tags| tags.contains(&asset.tag));
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response()
}
