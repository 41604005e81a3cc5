//! kos-qemu
