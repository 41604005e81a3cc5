//! What a call is answered with when it is not done: the errors of `org.kos.Init1`, and those of
//! D-Bus that every client knows.

use crate::supervisor::RequestError;

/// Why a call was not done. The words are for people; the name is for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No service has that name.
    #[error("{0}")]
    NoSuchService(String),
    /// The caller's manifest does not grant it.
    #[error("{0}")]
    NotAllowed(String),
    /// It cannot be done now.
    #[error("{0}")]
    Busy(String),
    /// An argument is wrong: what was found and what is allowed.
    #[error("{0}")]
    InvalidArgument(String),
    /// The manifests, with the change that was asked for, are wrong: file, key, what was found and
    /// what is allowed. Nothing was changed.
    #[error("{0}")]
    InvalidManifest(String),
    /// It was tried and went wrong.
    #[error("{0}")]
    Failed(String),
    /// The caller waits for too much at once.
    #[error("{0}")]
    LimitsExceeded(String),
    /// There is no such object.
    #[error("{0}")]
    UnknownObject(String),
    /// The object has no such interface.
    #[error("{0}")]
    UnknownInterface(String),
    /// The interface has no such method.
    #[error("{0}")]
    UnknownMethod(String),
    /// The interface has no such property.
    #[error("{0}")]
    UnknownProperty(String),
    /// Nobody has that name.
    #[error("{0}")]
    NameHasNoOwner(String),
    /// The property cannot be set: none can.
    #[error("{0}")]
    PropertyReadOnly(String),
    /// The arguments are not of the types that the method takes.
    #[error("{0}")]
    InvalidArgs(String),
}

impl ControlError {
    /// The error's name in D-Bus.
    pub fn name(&self) -> &'static str {
        match self {
            ControlError::NoSuchService(_) => "org.kos.Init1.Error.NoSuchService",
            ControlError::NotAllowed(_) => "org.kos.Init1.Error.NotAllowed",
            ControlError::Busy(_) => "org.kos.Init1.Error.Busy",
            ControlError::InvalidArgument(_) => "org.kos.Init1.Error.InvalidArgument",
            ControlError::InvalidManifest(_) => "org.kos.Init1.Error.InvalidManifest",
            ControlError::Failed(_) => "org.freedesktop.DBus.Error.Failed",
            ControlError::LimitsExceeded(_) => "org.freedesktop.DBus.Error.LimitsExceeded",
            ControlError::UnknownObject(_) => "org.freedesktop.DBus.Error.UnknownObject",
            ControlError::UnknownInterface(_) => "org.freedesktop.DBus.Error.UnknownInterface",
            ControlError::UnknownMethod(_) => "org.freedesktop.DBus.Error.UnknownMethod",
            ControlError::UnknownProperty(_) => "org.freedesktop.DBus.Error.UnknownProperty",
            ControlError::NameHasNoOwner(_) => "org.freedesktop.DBus.Error.NameHasNoOwner",
            ControlError::PropertyReadOnly(_) => "org.freedesktop.DBus.Error.PropertyReadOnly",
            ControlError::InvalidArgs(_) => "org.freedesktop.DBus.Error.InvalidArgs",
        }
    }
}

impl From<RequestError> for ControlError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoSuchService { .. } => ControlError::NoSuchService(error.to_string()),
            RequestError::NotNow(_) => ControlError::Busy(error.to_string()),
            RequestError::WrongManifest(_) => ControlError::InvalidManifest(error.to_string()),
        }
    }
}

impl From<zbus::Error> for ControlError {
    fn from(error: zbus::Error) -> Self {
        ControlError::InvalidArgs(error.to_string())
    }
}
