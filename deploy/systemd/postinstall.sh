#!/bin/sh
# The user first, then the config's folder is the server's to read. An upgrade does not
# restart a running node: a rolling upgrade is the operator's, node by node (RUNBOOK.md).
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
  systemd-sysusers /usr/lib/sysusers.d/seatkeeper.conf
else
  for name in seatkeeper seatkeeper-agent; do
    id "$name" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir "/var/lib/$name" --shell /usr/sbin/nologin "$name"
  done
fi
chgrp seatkeeper /etc/seatkeeper
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ ! -e /etc/seatkeeper/seatkeeper.yaml ]; then
  echo "seatkeeper: write the config: seatkeeper config init /etc/seatkeeper/seatkeeper.yaml && chown seatkeeper: /etc/seatkeeper/seatkeeper.yaml; edit it; systemctl enable --now seatkeeper"
fi
