//! kos-net
fn main() {}
