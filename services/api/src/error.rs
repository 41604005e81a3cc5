//! Errors as clients of the HTTP API see them: a fitting status and `{"error": "…"}`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::control::ControlError;
use crate::manifest_problem::ManifestProblem;
use crate::routes::MAX_BODY;

/// An error's words, left with its response for the page that a person gets instead.
#[derive(Debug, Clone)]
pub struct Said(pub String);

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// PID 1 refused, or is away.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nothing is there.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// Neither a valid session nor the pairing code.
    #[error("{0}")]
    Unauthorized(String),
    /// Refused whoever asks.
    #[error("{0}")]
    Forbidden(String),
    /// The `Host` header is not one of this box's names.
    #[error("{0}")]
    Misdirected(String),
    /// Too many wrong tries to pair.
    #[error("too many wrong tries to pair; try again in {0} s")]
    TooManyTries(u64),
    /// Too many nonces wait for the owner's signature.
    #[error("too many wait for the owner's signature; try again in {0} s")]
    TooManyChallenges(u64),
    /// The kernel gives no random numbers.
    #[error("no random numbers: {0}")]
    NoRandomness(String),
    /// Every place for an event stream is taken.
    #[error("all {0} event streams are in use; close a console tab or try again later")]
    TooManyStreams(usize),
    /// Every place for a model on its way is taken.
    #[error("{0} models are on their way already; wait for one of them")]
    TooManyTransfers(usize),
    /// A model did not come or go.
    #[error("{0}")]
    Transfer(String),
    /// The body is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The database does not do what it must.
    #[error("the store failed: {0}")]
    Store(#[from] sqlx::Error),
    /// The kept log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(String),
    /// The inference service cannot be reached.
    #[error("{0}")]
    InferenceAway(String),
    /// The inference service went away before it answered.
    #[error("{0}")]
    InferenceDied(String),
    /// A handler took too long, most likely waiting for the request's body.
    #[error("the request took too long")]
    TimedOut,
    /// A template could not be rendered.
    #[error("cannot render the page: {0}")]
    Render(#[from] askama::Error),
}

impl ApiError {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            ApiError::Control(error) => error.status(),
            ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ApiError::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
            ApiError::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            ApiError::TooManyTries(_) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            ApiError::InferenceDied(_) => StatusCode::BAD_GATEWAY,
            ApiError::TooManyStreams(_)
            | ApiError::TooManyTransfers(_)
            | ApiError::TooManyChallenges(_)
            | ApiError::InferenceAway(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Store(_)
            | ApiError::Transfer(_)
            | ApiError::Log(_)
            | ApiError::Render(_)
            | ApiError::NoRandomness(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which asking again may help.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            ApiError::TooManyTries(seconds) | ApiError::TooManyChallenges(seconds) => {
                Some(*seconds)
            }
            // Streams end when their tabs are closed.
            ApiError::TooManyStreams(_) => Some(5),
            _ => None,
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(error: JsonRejection) -> Self {
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(MAX_BODY),
            _ => ApiError::BadRequest(error.body_text()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!("{self}");
        }
        let mut body = serde_json::json!({ "error": self.to_string() });
        if let ApiError::Control(ControlError::InvalidManifest(words)) = &self {
            // Where it is wrong, for editors.
            if let Ok(serde_json::Value::Object(place)) =
                serde_json::to_value(ManifestProblem::of(words))
                && let Some(body) = body.as_object_mut()
            {
                body.extend(place);
            }
        }
        let body = Json(body);
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(Said(self.to_string()));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, ApiError::Unauthorized(_)) {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"kOS\""),
            );
        }
        response
    }
}
