//! The host name of the current uts namespace.

use crate::error::{SysError, Told};

/// Sets the host name.
///
/// # Errors
/// No `CAP_SYS_ADMIN`, or a name of more than 64 bytes.
pub fn set(name: &str) -> Result<(), SysError> {
    rustix::system::sethostname(name.as_bytes()).told("set the host name", name)
}
