#!/bin/bash
# The host tier: poold, installed by `make install` into a Debian with real systemd as PID 1.
#
#   tests/host/run.sh [WORD...]    all steps, or those whose name contains one of the words
#
# Needs root, a cgroup2 file system and the package mmdebstrap; root.sh fetches the rest once.
# POOLD_BUILD is where the programs were built (default target/debug, else target/release).
# Prints a RESULT line a step and a count; leaves nothing behind but the cache, however it ends.
set -uo pipefail

here=$(dirname "$(readlink -f "$0")")
tree=$(readlink -f "$here/../..")

skip_all() {
    echo "RESULT host all skip $*"
    echo "host: 0 passed, 0 failed, 1 skipped"
    exit 0
}

# All mounts are made in a namespace that ends with this script.
if [ -z "${POOLD_HOST_TIER:-}" ]; then
    [ "$(id -u)" = 0 ] || skip_all "needs root"
    command -v mmdebstrap >/dev/null || skip_all "mmdebstrap is not installed: apt-get install mmdebstrap"
    POOLD_HOST_TIER=1 exec unshare -m --propagation private "$0" "$@"
fi

for file in "$here"/{machine,support}.sh "$here"/steps/*.sh; do
    # shellcheck source=/dev/null
    . "$file"
done

WORDS=("$@")
[ -n "$(cgroup2_mount)" ] || skip_all "no cgroup2 file system is mounted"
build=${POOLD_BUILD:-$tree/target/debug}
[ -x "$build/poold" ] || build=$tree/target/release
[ -x "$build/poold" ] || { echo "RESULT host build fail no poold in $build: run 'make build'"; exit 1; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/poold-host.XXXXXX")
clean() {
    trap '' INT TERM HUP
    machine_clean
    wait
    # Its mounts end with the namespace; outside of it the directory is empty.
    umount -R -l "$work"
    rmdir "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# In memory: an overlay's upper directory can be here wherever this runs.
mount -t tmpfs -o mode=755,size=2g tmpfs "$work"

cached=$("$here/root.sh" 2>"$work/root.log") || {
    tail -n 20 "$work/root.log"
    echo "RESULT host root fail cannot build the Debian root"
    exit 1
}
machine_prepare "$cached" "$work"

step uninstall_removes_every_file_that_install_put_there
(set -e; make_install; machine_boot) >"$work/boot.log" 2>&1 || {
    cat "$work/boot.log" "$work/console"
    echo "RESULT host boot fail"
    exit 1
}
for name in "${STEPS[@]}"; do step "$name"; done
WORDS=()
step the_machine_powers_off
step uninstall_after_use_leaves_only_what_is_the_users
summary
