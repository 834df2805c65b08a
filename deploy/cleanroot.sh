#!/usr/bin/env bash
# A Debian with nothing in it but what every Debian has, to install packages in (root).
#   cleanroot.sh make FILE.tar [PACKAGE,…]     from the mirror that this machine's apt uses
#   cleanroot.sh unpack FILE.tar DIR           a machine of its own
set -euo pipefail
umask 022

usage() { sed -n '2,4s/^# *//p' "$0" >&2; exit 2; }

# mirror_of prints where this machine's apt has a suite from.
mirror_of() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" 'Component: main' | sed -n 1p
}

make_root() {
  local file=$1 with=${2:-} suite mirror work
  command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(mirror_of "$suite")
  [ -n "$mirror" ] || { apt-get update -qq && mirror=$(mirror_of "$suite"); }
  [ -n "$mirror" ] || { echo "apt knows no mirror of $suite: see /etc/apt/sources.list.d" >&2; exit 1; }
  mkdir -p "$(dirname "$file")"
  work=$(mktemp -d "$file.XXXXXX")
  trap "rm -rf --one-file-system '$work'" EXIT
  # What is made here may be made again: nobody waits for the disk.
  mkdir -p "$work/root/etc/dpkg/dpkg.cfg.d"
  echo force-unsafe-io >"$work/root/etc/dpkg/dpkg.cfg.d/unsafe"
  if ! debootstrap --variant=minbase ${with:+--include="$with"} "$suite" "$work/root" "$mirror" >"$work/log" 2>&1; then
    tail -n 20 "$work/log" "$work/root/debootstrap/debootstrap.log" >&2 || true
    exit 1
  fi
  rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists"
  tar -C "$work/root" --one-file-system -cf "$work/root.tar" .
  mv "$work/root.tar" "$file"
}

case "${1:-} $#" in
make\ 2 | make\ 3) make_root "$2" "${3:-}" ;;
unpack\ 3) mkdir -p "$3" && tar -C "$3" --numeric-owner -xpf "$2" ;;
*) usage ;;
esac
