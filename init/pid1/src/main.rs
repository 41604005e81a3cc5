//! kos-init
fn main() {}
