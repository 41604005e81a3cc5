#!/bin/sh
# Removes what kOS does not name: C library, skeleton, Buildroot's own files.
#
# Called by Buildroot with a copy of the target directory, just before it is
# packed. An allow-list, so that a package which is added some day does not
# bring a shell along unseen.
set -eu

cd "$1"
find . -mindepth 1 -depth \
	! -path ./init \
	! -path ./bin ! -path './bin/kos-*' \
	! -path ./etc ! -path './etc/kos' ! -path './etc/kos/*' \
	! -path ./dev ! -path ./dev/null \
	! -path ./proc ! -path ./sys ! -path ./run ! -path ./tmp \
	! -path ./data ! -path ./boot ! -path ./sandbox \
	-delete

for program in init bin/kos-launch bin/kos-api bin/kos-net bin/kos-infer; do
	if [ ! -x "$program" ]; then
		echo "post-fakeroot.sh: /$program is not in the target" >&2
		exit 1
	fi
done
