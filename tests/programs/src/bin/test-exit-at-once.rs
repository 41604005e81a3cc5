//! Exits at once.
fn main() {}
