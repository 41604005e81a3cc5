//! kos-api
fn main() {}
