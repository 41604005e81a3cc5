//! Why a model does not come or go.

use hyper::StatusCode;

use super::names::ResolveError;

/// One failing step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's name, or the address of a file.
    #[error("{0}")]
    Name(String),
    /// A plain connection that was not asked for.
    #[error("insecure protocol http: ask with \"insecure\": true")]
    Insecure,
    /// A name that no name server knows.
    #[error("cannot find {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: ResolveError,
    },
    /// No connection.
    #[error("cannot connect to {host}:{port}: {reason}")]
    Connect {
        /// To whom.
        host: String,
        /// Where.
        port: u16,
        /// Why, in words.
        reason: String,
    },
    /// The connection broke.
    #[error("{host} went away: {reason}")]
    Broken {
        /// Who.
        host: String,
        /// Why, in words.
        reason: String,
    },
    /// An answer that does not help.
    #[error("{host} answered {status}: {text}")]
    Refused {
        /// Who.
        host: String,
        /// The status.
        status: StatusCode,
        /// The beginning of what it said.
        text: String,
    },
    /// An answer that is not as the protocol has it.
    #[error("{host} answered what no registry does: {problem}")]
    Answer {
        /// Who.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The registry has no such model.
    #[error("pull model manifest: file does not exist")]
    Missing,
    /// The inference service refused.
    #[error("{text}")]
    Store {
        /// Its status.
        status: StatusCode,
        /// Its words.
        text: String,
    },
    /// The inference service is away.
    #[error("the inference service does not answer: {0}")]
    Away(String),
}

impl Error {
    /// Whether another try may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Resolve { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            // What was uploaded goes on at another place, or another upload still ends.
            Self::Store { status, .. } => {
                matches!(
                    *status,
                    StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE
                )
            }
            _ => false,
        }
    }
}
