//! kos-tests
