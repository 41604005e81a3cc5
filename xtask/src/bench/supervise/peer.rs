//! The supervisors that are compared, and the packages that each needs.

use std::str::FromStr;

use anyhow::{Error, bail};

use crate::arch::Arch;
use crate::debian::Wanted;

/// A supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Ours.
    Kos,
    /// systemd 252.
    Systemd,
    /// finit 4.2.
    Finit,
    /// runit 2.1.
    Runit,
    /// s6 2.11.
    S6,
}

/// Of every dynamic program.
const LIBC: &[&str] = &["libc6", "libgcc-s1"];
/// chroot, and what it needs.
const COREUTILS: &[&str] = &[
    "coreutils",
    "libacl1",
    "libattr1",
    "libgmp10",
    "libpcre2-8-0",
    "libselinux1",
];
/// systemd as an appliance's builder would install it: no udev, no D-Bus broker, no logins.
const SYSTEMD: &[&str] = &[
    "base-files",
    "dash",
    "libapparmor1",
    "libargon2-1",
    "libaudit1",
    "libblkid1",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libcryptsetup12",
    "libdevmapper1.02.1",
    "libfdisk1",
    "libffi8",
    "libgcrypt20",
    "libgpg-error0",
    "libip4tc2",
    "libjson-c5",
    "libkmod2",
    "liblz4-1",
    "liblzma5",
    "libmount1",
    "libp11-kit0",
    "libpam0g",
    "libseccomp2",
    "libsmartcols1",
    "libssl3",
    "libsystemd-shared",
    "libsystemd0",
    "libtinfo6",
    "libudev1",
    "libuuid1",
    "libzstd1",
    "mount",
    "systemd",
    "util-linux",
    "zlib1g",
];
const FINIT: &[&str] = &[
    "dash",
    "finit",
    "libblkid1",
    "libcrypt1",
    "libite5",
    "libmount1",
    "libsmartcols1",
    "libuev3",
    "mount",
];
const RUNIT: &[&str] = &["dash", "runit"];
const S6: &[&str] = &[
    "execline",
    "libexecline2.9",
    "libs6-2.11",
    "libskarnet2.13",
    "s6",
];

impl Peer {
    /// All of them, in the order of the table.
    pub const ALL: [Peer; 5] = [Peer::Kos, Peer::Systemd, Peer::Finit, Peer::Runit, Peer::S6];

    /// Its name in the table and on the guest's command line.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Kos => "kos",
            Peer::Systemd => "systemd",
            Peer::Finit => "finit",
            Peer::Runit => "runit",
            Peer::S6 => "s6",
        }
    }

    /// Debian's packages of its root.
    pub fn packages(self) -> Vec<Wanted> {
        let own: &[&[&'static str]] = match self {
            Peer::Kos => &[],
            Peer::Systemd => &[LIBC, COREUTILS, SYSTEMD],
            Peer::Finit => &[LIBC, COREUTILS, FINIT],
            Peer::Runit => &[LIBC, RUNIT],
            Peer::S6 => &[LIBC, COREUTILS, S6],
        };
        own.concat()
            .into_iter()
            .map(|name| Wanted {
                name,
                arch: Some(Arch::X86_64),
            })
            .collect()
    }
}

impl FromStr for Peer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match Peer::ALL.into_iter().find(|peer| peer.name() == name) {
            Some(peer) => Ok(peer),
            None => {
                let allowed = Peer::ALL.map(Peer::name).join(", ");
                bail!("found {name}, allowed: {allowed}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_lead_back_and_no_package_is_asked_for_twice() {
        for peer in Peer::ALL {
            assert_eq!(peer.name().parse::<Peer>().unwrap(), peer);
            let packages = peer.packages();
            let names: BTreeSet<_> = packages.iter().map(|package| package.name).collect();
            assert_eq!(names.len(), packages.len(), "{peer:?}");
        }
        assert!("openrc".parse::<Peer>().is_err());
    }
}
