//! Errors as Ollama writes them (`{"error": "text"}`), and as OpenAI does
//! (`{"error": {message, type, param, code}}`).

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
    /// OpenAI's word for it, where it has one.
    code: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, text: String) -> Self {
        Self {
            status,
            text,
            code: None,
        }
    }

    pub(super) fn bad(text: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text.to_string())
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// As OpenAI's clients read it.
    pub(super) fn openai(self) -> Response {
        let body = openai_line(self.status, &self.text, self.code);
        (self.status, Json(body)).into_response()
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

fn openai_line(status: StatusCode, text: &str, code: Option<&str>) -> Value {
    let kind = match status {
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::SERVICE_UNAVAILABLE => "service_unavailable_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    json!({ "error": { "message": text, "type": kind, "param": null, "code": code } })
}

/// The failure's object in the middle of OpenAI's streams.
pub(super) fn openai_failure(failure: Failure) -> Value {
    let refused = Refused::from(failure);
    openai_line(refused.status, &refused.text, refused.code)
}

impl From<library::Error> for Refused {
    fn from(error: library::Error) -> Self {
        let (status, code) = match error {
            library::Error::NotFound { .. } => (StatusCode::NOT_FOUND, Some("model_not_found")),
            library::Error::Name { .. } | library::Error::Recipe(_) => {
                (StatusCode::BAD_REQUEST, None)
            }
            library::Error::Store(error) => return error.into(),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self {
            code,
            ..Self::new(status, Failure::internal(&error).text)
        }
    }
}

impl From<library::StoreError> for Refused {
    fn from(error: library::StoreError) -> Self {
        use library::StoreError::{Busy, Full, Io, Mismatch, Offset};
        let status = match error {
            Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Mismatch { .. } => StatusCode::BAD_REQUEST,
            Offset { .. } => StatusCode::CONFLICT,
            Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
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
            Refusal::Request | Refusal::TooLong => StatusCode::BAD_REQUEST,
            Refusal::Busy | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Gone | Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let too_long = failure.refusal == Refusal::TooLong;
        Self {
            code: too_long.then_some("context_length_exceeded"),
            ..Self::new(status, failure.text)
        }
    }
}
