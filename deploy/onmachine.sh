#!/bin/sh
# Stands for the seatkeeper of several machines: "server --config DIR/NAME.yaml" is run by
# the program, and as the user, of the package that is installed in $MACHINES/NAME, where
# DIR is seen under the same path. For make drill, in a mount namespace of its own.
set -eu
name=$(basename "$3" .yaml)
root=$MACHINES/$name dir=$(dirname "$3")
mkdir -p "$root$dir"
mountpoint -q "$root$dir" || mount --bind "$dir" "$root$dir"
chmod go+x "$dir" "$(dirname "$dir")"
chown -R "$(stat -c %u:%g "$root/var/lib/seatkeeper")" "$dir"
exec chroot --userspec=seatkeeper:seatkeeper "$root" /usr/bin/seatkeeper "$@"
