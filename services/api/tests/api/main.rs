//! `kos-api` as its clients meet it: the real program, on real sockets, between fake neighbours.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends; the lint knows only functions marked as tests"
)]

mod client;
mod disk;
mod door;
mod fakes;
mod fixture;
mod journal;
mod logs;
mod machine;
mod many;
mod operator;
mod owner;
mod proxy;
mod registry;
mod services;
mod store;
