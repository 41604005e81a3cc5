//! `kos-api` as its clients meet it: the real program, on real sockets, between fake neighbours.

mod client;
mod door;
mod fakes;
mod fixture;
mod logs;
mod proxy;
mod services;
mod store;
