#!/bin/sh
# Data and config stay: they may be all that is left of a cluster.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
