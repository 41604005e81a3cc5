#!/bin/sh
# Names kernel and initramfs as `cargo xtask image` does.
#
# Called by Buildroot with the images directory.
# `cargo xtask buildroot` makes the disk image of the two.
set -eu

images=$1
arch=$(sed -n 's/^BR2_ARCH="\(.*\)"$/\1/p' "$BR2_CONFIG")
case $arch in
x86_64) kernel=bzImage ;;
aarch64) kernel=Image ;;
*)
	echo "post-image.sh: BR2_ARCH is $arch, known: x86_64, aarch64" >&2
	exit 1
	;;
esac

cp "$images/$kernel" "$images/kos-$arch.vmlinuz"
cp "$images/rootfs.cpio.zst" "$images/kos-$arch.initramfs"
# What follows, such as the board's file, must begin at a multiple of four.
size=$(stat -c %s "$images/kos-$arch.initramfs")
truncate -s $(((size + 3) / 4 * 4)) "$images/kos-$arch.initramfs"
