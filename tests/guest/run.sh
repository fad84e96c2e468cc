#!/bin/bash
# The guest tier: poold, installed by `make install`, in a Debian of its own under QEMU: its kernel, systemd, udev, bus and
# polkit, and disks to do anything with.
#
#   tests/guest/run.sh [-v] [--cold] [--quick] [NAME...]    all step files, or these of tests/guest/steps
#
#   -v       each command of each step
#   --cold   boots even those that could go on from the frozen machine
#   --quick  without what takes long: step files that say `quick: no`, steps marked `long`, and all but one cell of
#            docs/dead-servers.md for each type and fault
#
# Needs root and what `scripts/setup.sh guest` installs. The image is built once (image.sh); `make test-vm-zfs` adds ZFS.
# POOLD_BUILD is where the programs were built (default: where they were built last, below target).
# Prints a RESULT line a step and a count; leaves nothing behind but the cache, however it ends.
#
# To add a step, add to a file of tests/guest/steps or write another: functions, and a `step FUNCTION` for each. The first
# command that fails fails the step; commands run in the guest as root. What else they have is in support.sh and
# tests/support/steps.sh. Example:
#
#     # shellcheck shell=bash
#     # What this file is about.
#     a_volume_is_as_large_as_asked() {
#         define vg --build --start <<XML
#     <pool type='logical'><name>vg</name><source><device path='$(disk disk0)'/></source></pool>
#     XML
#         poolctl vol create vg/one 64M
#         is "$(bytes /dev/vg/one)" $((64 << 20))
#         qemu_opens /dev/vg/one raw $((64 << 20))
#         refused Exists poolctl vol create vg/one 64M
#     }
#     step a_volume_is_as_large_as_asked
#
# `long step NAME` is left out by --quick.
# Steps about all types of pools (reboots, upgrades, confinement) take a type's row from types.sh; a new type adds one.
#
# Each file has a guest of its own, which goes on from a frozen machine in a second. A file says in its head what it
# needs beyond that:
#
#     # boot: cold      a real boot; `reboot` between two steps then reboots the guest
#     # needs: zfs      a skip without the ZFS modules
#     # quick: no       a skip with --quick; `only`, a skip without
#     # limit: 1800     seconds until its guest is taken to hang (600); what may take longest is started first
set -uo pipefail

here=$(dirname "$(readlink -f "$0")")
tree=$(readlink -f "$here/../..")

skip_all() {
    echo "RESULT guest all skip $*"
    echo "guest: 0 passed, 0 failed, 1 skipped"
    exit 0
}
no_run() {
    echo "RESULT guest $1 fail $2"
    echo "guest: 0 passed, 1 failed, 0 skipped"
    exit 1
}

cold=() trace=() quick='' names=()
for word in "$@"; do
    case $word in
        --cold) cold=(--cold) ;;
        -v) trace=(--trace) ;;
        --quick) quick=yes ;;
        -*) sed -n '/^#   tests/,/^$/s/^# *//p' "$0" >&2; exit 2 ;;
        *) names+=("$(basename "$word" .sh)") ;;
    esac
done
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(basename -s .sh -a "$here"/steps/*.sh)
for name in "${names[@]}"; do
    [ -e "$here/steps/$name.sh" ] || no_run "$name" "there is no tests/guest/steps/$name.sh"
done

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || skip_all "needs Debian on amd64"
for program in qemu-system-x86_64 qemu-img mmdebstrap cpio busybox; do
    command -v "$program" >/dev/null || skip_all "$program is not installed: scripts/setup.sh guest"
done
build=${POOLD_BUILD:-}
if [ ! "$build" ]; then
    for kind in guest debug release; do
        [ -x "$tree/target/$kind/poold" ] || continue
        [ "$build" ] && [ ! "$tree/target/$kind/poold" -nt "$build/poold" ] || build=$tree/target/$kind
    done
fi
[ -x "$build/poold" ] || no_run build "no poold in ${build:-target}: run 'make guest-programs'"

# What other runs left that were killed.
for stale in "${TMPDIR:-/var/tmp}"/poold-guest.*.*; do
    pid=${stale%.*} pid=${pid##*.}
    [ ! -d "$stale" ] || [ -d "/proc/$pid" ] || rm -rf --one-file-system "$stale"
done
work=$(mktemp -d "${TMPDIR:-/var/tmp}/poold-guest.$$.XXXXXX")
running=()
clean() {
    trap '' INT TERM HUP
    [ ${#running[@]} = 0 ] || kill "${running[@]}" 2>/dev/null
    wait
    rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

image=$("$here/image.sh" 2>"$work/image.log") || {
    tail -n 20 "$work/image.log"
    no_run image "cannot build the guest's image"
}

# The disk "job": what `make install` installs, without debug information, and the steps.
make -s -C "$tree" -f Makefile.install install DESTDIR="$work/job" PREFIX=/usr BUILD="$build" || no_run install "make install failed"
strip --strip-debug "$work/job/usr/sbin/poold" "$work/job/usr/bin/poolctl"
mkdir -p "$work/job/opt/test/"{guest,support}
cp -r "$here"/{support,types,lio,servers,failures,matrix}.sh "$here"/{calls,noise}.py "$here/steps" "$work/job/opt/test/guest/"
cp "$tree"/docs/{failures,dead-servers}.md "$work/job/opt/test/guest/"
[ ! "$quick" ] || touch "$work/job/opt/test/guest/quick"
cp "$here/../support/steps.sh" "$work/job/opt/test/support/"
# Names of errors with the exit statuses of poolctl, where poold has them.
sed -n 's/^ *(K::\([A-Za-z]*\), ".*", \([0-9]*\)),$/\1 \2/p' "$tree/src/model/error.rs" >"$work/job/opt/test/guest/errors"
tar -C "$work/job" --owner=0 --group=0 -cf "$work/job.tar" .
truncate -s 256M "$work/job.tar"

# heading FILE WORD: what the file's head says of it.
heading() { sed -n "/^#/!q; s/^# $2: *//p" "$here/steps/$1.sh"; }

longest_first() {
    local name limit
    for name; do
        limit=$(heading "$name" limit)
        echo "${limit:-600} $name"
    done | sort --stable --reverse --numeric-sort --key=1,1 | cut -d ' ' -f 2
}
mapfile -t names < <(longest_first "${names[@]}")

touch "$work/results"
quietly=(--quiet)
[ ${#names[@]} -gt 1 ] || quietly=()
for name in "${names[@]}"; do
    if [ "$(heading "$name" needs)" = zfs ] && [ "$(cat "$image/zfs")" = no ]; then
        echo "RESULT guest $name skip no ZFS modules: make test-vm-zfs builds them" | tee -a "$work/results"
        continue
    fi
    case $(heading "$name" quick),$quick in
        no,yes)
            echo "RESULT guest $name skip takes long: make test-vm runs it" | tee -a "$work/results"
            continue
            ;;
        # Others have its steps.
        only,) continue ;;
    esac
    limit=$(heading "$name" limit)
    options=("${trace[@]}" "${quietly[@]}" "${cold[@]}" --limit "${limit:-600}")
    [ "$(heading "$name" boot)" != cold ] || options+=(--cold)
    setpriv --pdeathsig TERM "$here/machine.py" run --image "$image" --work "$work" "${options[@]}" "$name" &
    running+=($!)
done
wait "${running[@]}"
running=()

count() { grep -c "^RESULT [^ ]* [^ ]* $1" "$work/results"; }
echo "guest: $(count pass) passed, $(count fail) failed, $(count skip) skipped"
[ "$(count fail)" = 0 ]
