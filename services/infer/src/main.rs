//! kos-infer
fn main() {}
