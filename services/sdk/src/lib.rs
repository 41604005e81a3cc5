//! What every kOS service needs and none should write twice: readiness, logging, credentials,
//! a Unix socket to serve on, stopping cleanly, escaping in addresses, and the client of PID 1's control interface.
//!
//! Nothing here knows what a service does; nothing here talks to the network.

pub mod control;
pub mod credentials;
pub mod log;
pub mod notify;
pub mod percent;
pub mod serve;
pub mod service_facts;
pub mod stop;
