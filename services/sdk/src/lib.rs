//! kos-sdk
