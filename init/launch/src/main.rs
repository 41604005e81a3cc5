//! kos-launch
fn main() {}
