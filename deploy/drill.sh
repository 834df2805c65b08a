#!/usr/bin/env bash
# make drill: four machines, each a clean Debian into which its own dpkg installs the
# package, and the runbook worked through on them. Without root the package is only
# unpacked.
set -euo pipefail
deb=$PWD/$1
export SEATKEEPER_DRILL=1
drill=(go test -count=1 -v -timeout 10m -run 'TestRunbookDrill$' ./cmd/seatkeeper)
rm -rf --one-file-system bin/drill
trap 'rm -rf --one-file-system bin/drill' EXIT
mkdir -p bin/drill

if [ "$(id -u)" != 0 ]; then
  echo 'not root: the package is unpacked and NOT installed'
  dpkg-deb -x "$deb" bin/drill
  SEATKEEPER_DRILL_BINARY=$PWD/bin/drill/usr/bin/seatkeeper "${drill[@]}"
  exit
fi
for node in node-1 node-2 node-3 node-4; do # the last one replaces one of the others
  root=bin/drill/$node
  deploy/cleanroot.sh unpack bin/cleanroot.tar "$root"
  cp "$deb" "$root/tmp/seatkeeper.deb"
  chroot "$root" dpkg --install /tmp/seatkeeper.deb >bin/drill/dpkg.log || { cat bin/drill/dpkg.log; exit 1; }
  chroot "$root" install -d -m 0700 -o seatkeeper -g seatkeeper /var/lib/seatkeeper # as its unit has it made
done
export MACHINES=$PWD/bin/drill
export SEATKEEPER_DRILL_MACHINES=$MACHINES SEATKEEPER_DRILL_PACKAGE=$deb SEATKEEPER_DRILL_BINARY=$PWD/deploy/onmachine.sh
# Mounts and processes are gone with it, however it ends.
unshare --mount-proc --propagation private --pid --fork --kill-child "${drill[@]}"
