//! GGUF: the file format of models. Pure: bytes in, checked values out.
//!
//! Every length, count and offset is compared with what the file can still hold before anything
//! is allocated or read for it. A [`File`] that exists is sound: its keys are unique, its tensors
//! lie inside the file and do not overlap.
//!
//! Format: the `gguf.md` document of the ggml project, versions 2 and 3.

mod error;
mod file;
mod kind;
mod reader;
mod value;

pub use error::Error;
pub use file::{File, Tensor};
pub use kind::Kind;
pub(crate) use value::required;
pub use value::{Metadata, Value};
