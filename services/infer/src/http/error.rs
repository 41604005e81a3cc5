//! Errors as Ollama writes them: `{"error": "text"}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::engine::{Failure, Refusal};
use crate::{library, options};

/// A request that is not served.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }

    pub(super) fn bad(text: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(line(&self.text))).into_response()
    }
}

/// The error's object, which is also what stands in a stream.
pub(super) fn line(text: &str) -> Value {
    json!({ "error": text })
}

impl From<library::Error> for Refused {
    fn from(error: library::Error) -> Self {
        let status = match error {
            library::Error::NotFound { .. } => StatusCode::NOT_FOUND,
            library::Error::Name { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, Failure::internal(&error).text)
    }
}

impl From<options::Error> for Refused {
    fn from(error: options::Error) -> Self {
        Self::bad(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let status = match failure.refusal {
            Refusal::Request => StatusCode::BAD_REQUEST,
            Refusal::Busy | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Gone | Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, failure.text)
    }
}
