//! End-to-end tests: they boot the image in QEMU and look at it from outside, as a user would.
//!
//! One program for all suites, so that a boot is paid once: tests which do not disturb each other
//! share a guest ([`kos_tests::Guest::shared`]); the others have their own. Run by
//! `cargo xtask test`, which builds the images.

mod activation;
mod attacks;
mod attacks_by_flood;
mod chaos;
mod console;
mod containment;
mod data_problems;
mod disk_boot;
mod factory_reset;
mod failures;
mod foreign_client;
mod generation;
mod identity;
mod isolation;
mod kept_log;
mod logs;
mod manifests;
mod models;
mod on_aarch64;
mod on_x86_64;
mod order;
mod orphans;
mod persistence;
mod power_cut;
mod pressure;
mod records;
mod reload;
mod settings;
mod supervision;
