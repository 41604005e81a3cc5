//! kos-manifest
