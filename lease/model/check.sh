#!/usr/bin/env bash
# Searches every state of the model, as it is and with one rule taken away at a time, and
# prints a table. Exit 0: the protocol holds and every broken variant gives a
# counterexample. TRAILS=dir keeps the counterexamples (read them with spin -t -p).
set -euo pipefail
cd "$(dirname "$0")"
for need in spin gcc; do
  command -v $need >/dev/null || { echo "$need is missing. On Debian: apt-get install --no-install-recommends spin gcc libc6-dev" >&2; exit 2; }
done

variants=(
  "FROM_RECEIPT:deadlines count from the answer's receipt"
  "NO_MARGIN:no margin for the client's clock"
  "SLEEPY_CLOCK:the client's clock stops in sleep"
  "RELEASE_FIRST:a seat is used after its release was sent"
  "RENEW_BY_CLIENT:a renewal counts for the client, not the lease"
  "ANY_ANSWER:an answer to an earlier request counts"
  "NO_NUMBERS:requests carry no number"
  "ANSWER_FIRST:the leader answers before the commit"
  "WALL_CLOCK:the leader's clock can jump"
  "NO_REBASE:a new leader's clock starts anywhere"
  "CATCH_UP:a leader makes up for time it could not commit"
  "ANY_EPOCH:entries of deposed leaders count"
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$PWD/lease.pml

# A broken variant is searched to this depth first: most show themselves soon, and short
# counterexamples are the ones that can be read.
short=500

# The depth is far above the longest path without a repeated state; a search that meets
# it all the same is not complete, and is reported as such.
depth=30000000

# search NAME DEPTH FLAGS...: builds and runs one search; its output is in $work/NAME/out.
search() {
  local dir=$work/$1 depth=$2
  shift 2
  mkdir -p "$dir"
  (cd "$dir" && spin -a "$@" "$model" >spin.out && gcc -O2 -DSAFETY -DNOREDUCE -DCOLLAPSE -DT_REVERSE -o pan pan.c 2>gcc.out &&
    ./pan -E -n -w24 -m"$depth" >out 2>&1) || true
}

states() { sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/$1/out" | head -1; }
seconds() { sed -n 's/^pan: elapsed time \([0-9.]*\).*/\1/p' "$work/$1/out" | head -1; }

failed=0
row() { printf '%-18s %-52s %-16s %10s %7s\n' "$@"; }
row VARIANT "WHAT IS TAKEN AWAY" RESULT STATES SECONDS

search good $depth &
whole=$!
for v in "${variants[@]}"; do
  name=${v%%:*}
  search "$name" $short "-D$name"
  grep -q 'assertion violated.*until' "$work/$name/out" || search "$name" $depth "-D$name"
  if grep -q 'assertion violated.*until' "$work/$name/out"; then
    row "$name" "${v#*:}" "two believers" "$(states "$name")" "$(seconds "$name")"
    if [ -n "${TRAILS:-}" ]; then mkdir -p "$TRAILS" && cp "$work/$name"/*.trail "$TRAILS/$name.trail"; fi
  else
    row "$name" "${v#*:}" "NOT FOUND" "$(states "$name")" "$(seconds "$name")"
    failed=1
  fi
done
wait "$whole"
if grep -q 'errors: 0' "$work/good/out" && ! grep -q 'search depth too small\|not completed\|out of memory' "$work/good/out"; then
  row - "nothing" "holds, complete" "$(states good)" "$(seconds good)"
else
  row - "nothing" "FAILED" "$(states good)" "$(seconds good)"
  cat "$work/good/out" >&2
  failed=1
fi
exit $failed
