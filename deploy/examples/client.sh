#!/bin/sh
# A program under licence in POSIX shell: three calls to the agent on this machine.
#
#   client.sh FEATURE COMMAND…
#
# The seat goes with this shell (pid $$): should it be killed, the agent returns the seat.
# Needs curl. SEATKEEPER_AGENT_SOCKET names the socket.
set -eu
socket=${SEATKEEPER_AGENT_SOCKET:-/run/seatkeeper-agent/agent.sock}
feature=$1
shift
agent() { curl --silent --show-error --fail-with-body --unix-socket "$socket" "$@"; }

# 1. Take a seat, waiting up to a minute for a free one.
if ! answer=$(agent --data "{\"feature\":\"$feature\",\"pid\":$$,\"wait_ms\":60000}" http://agent/v1/checkout); then
	echo "no seat of $feature: $answer" >&2
	exit 75
fi
# 3. Give it back at the end, whatever the end is.
trap 'agent --data "{\"pid\":$$}" http://agent/v1/checkin >/dev/null' EXIT

"$@"

# 2. Ask whether it is still ours, as often as it matters.
case $(agent "http://agent/v1/session?pid=$$") in
*'"valid":true'*) ;;
*)
	echo "the seat of $feature was lost while the command ran" >&2
	exit 1
	;;
esac
