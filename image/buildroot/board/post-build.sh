#!/bin/sh
# Lays out what the programs read: /etc/kos/{services,seccomp,models,release.toml}.
#
# Called by Buildroot with the target directory, when
# every package is installed. Nothing is removed here: the target directory is
# used again by the next build (see post-fakeroot.sh).
set -eu

target=$1
checkout=$(realpath "$BR2_EXTERNAL_KOS_PATH/../..")

for kind in services seccomp; do
	rm -rf "$target/etc/kos/$kind"
	mkdir -p "$target/etc/kos/$kind"
	install -m 0644 "$checkout/image/$kind"/*.toml "$target/etc/kos/$kind/"
done

rm -rf "$target/etc/kos/models"
mkdir -p "$target/etc/kos/models"
install -m 0644 "$checkout"/image/models/*.gguf "$target/etc/kos/models/"

# The version of [workspace.package], which every crate inherits.
version=$(sed -n '/^\[workspace\.package\]$/,/^\[/s/^version = "\(.*\)"$/\1/p' \
	"$checkout/Cargo.toml")
arch=$(sed -n 's/^BR2_ARCH="\(.*\)"$/\1/p' "$BR2_CONFIG")
if [ -z "$version" ] || [ -z "$arch" ]; then
	echo "post-build.sh: no version in Cargo.toml or no BR2_ARCH in $BR2_CONFIG" >&2
	exit 1
fi
{
	printf 'name = "kOS"\nversion = "%s"\narch = "%s"\n' "$version" "$arch"
	if commit=$(git -C "$checkout" rev-parse --verify HEAD 2>/dev/null); then
		printf 'commit = "%s"\n' "$commit"
	fi
} > "$target/etc/kos/release.toml"
