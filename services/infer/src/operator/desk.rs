//! Where requests to the operator come in: it is read from its file when first asked, and kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::call::Call;
use super::{Error, Operator};
use crate::library::{self, Model};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] library::Error),
    /// It is no operator, or cannot compute.
    #[error("model file {file}: {source}")]
    Operator {
        /// Its name.
        file: String,
        /// What is wrong.
        source: Error,
    },
}

/// Keeps the operator: some 10 MB, and not worth reading again.
#[derive(Debug, Default)]
pub struct Desk {
    kept: Mutex<Option<(Model, Arc<Operator>)>>,
}

impl Desk {
    /// What a request means, as the operator in that file reads it.
    ///
    /// # Errors
    /// When the file is none, or candle refuses.
    pub fn read(&self, model: &Model, request: &str) -> Result<Call, DeskError> {
        let wrong = |source| DeskError::Operator {
            file: model.file_name(),
            source,
        };
        self.operator(model)?.read(request).map_err(wrong)
    }

    fn operator(&self, model: &Model) -> Result<Arc<Operator>, DeskError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, operator)) = kept.as_ref()
            && of == model
        {
            return Ok(Arc::clone(operator));
        }
        let (file, header) = model.open_file()?;
        let operator = Operator::load(&header, &file).map_err(|source| DeskError::Operator {
            file: model.file_name(),
            source,
        })?;
        let operator = Arc::new(operator);
        *kept = Some((model.clone(), Arc::clone(&operator)));
        Ok(operator)
    }
}
