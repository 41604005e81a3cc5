//! kos-sys
