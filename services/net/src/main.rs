//! `kos-net`: addresses, DNS, the host name and the clock.
//!
//! IPv4 comes by DHCP or from the owner's settings, IPv6 by the kernel's own reading of router
//! advertisements; this service sets links up, keeps leases, asks for the time, and writes what is
//! known to its runtime directory (`state.json`, `resolv.conf`). It listens on no port, starts no
//! program, makes no connection that nobody asked for, and needs no more than CAP_NET_ADMIN,
//! CAP_NET_RAW and CAP_SYS_TIME. It reads what strangers send: every packet is parsed into a checked
//! type first.

mod clock;
mod dhcp;
mod fixed;
mod hostname;
mod interface;
mod lease;
mod manager;
mod naming;
mod netlink;
mod owner;
mod rdnss;
mod settings;
mod state;
mod timekeeping;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let Some(options) = settings::read(lexopt::Parser::from_env())? else {
        return Ok(());
    };
    kos_sdk::log::init();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(manager::run(options))
}
