#!/bin/sh
# $1 is "remove" (deb) or 0 (rpm) when the package goes, else it is an upgrade.
set -e
case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now seatkeeper || true
    systemctl disable --now seatkeeper-agent || true
  fi
  ;;
esac
