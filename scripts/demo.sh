#!/bin/bash
# demo.sh: poold's main job, step by step, as a person would do it. Runs on the bus that private-bus.sh made (make run).
#
# Every step is a command as typed, and its output; a step that goes otherwise than it should ends the demonstration
# with its status. KEEP=1 then keeps the bus up.
set -euo pipefail

programs=$(dirname "$(dirname "$(readlink -f "$0")")")/target/debug
# The bus's directory is private-bus.sh's to remove, with all that is made here.
work=$POOLD_BUS_DIR/demo
images=$work/images
mkdir "$work" "$work/bin"
cd "$work"
# Where everybody can reach it, as a program that is installed; the project may be in somebody's home.
cp "$programs/poolctl" "$work/bin/"
export PATH=$work/bin:$PATH

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
# What is shown is what runs; strings with blanks are quoted for the reader.
try() {
    printf '%s$' "$bold"
    printf ' %s' "${@@Q}" | sed "s/'\([A-Za-z0-9_.,:\/=+-]*\)'/\1/g"
    printf '%s\n' "$plain"
    "$@"
}
# For steps that must be refused.
refuse() {
    if try "$@" 2>&1; then
        echo "demo: that should have been refused" >&2
        exit 1
    fi
}

say "A pool from libvirt's own document, built and started; the first call starts poold"
cat >images.xml <<END
<pool type='dir'>
  <name>images</name>
  <target>
    <path>$images</path>
  </target>
</pool>
END
try cat images.xml
try poolctl define images.xml --build --start --autostart
try poolctl list

say "Volumes: a raw disk, a qcow2 image, and one that is a difference to it"
try poolctl vol create images/data.raw 1G
try poolctl vol create images/root.qcow2 20G --format qcow2
try poolctl vol create images/overlay.qcow2 --format qcow2 --backing images/root.qcow2
try poolctl vol list images
if command -v qemu-img >/dev/null; then
    try qemu-img info "$images/overlay.qcow2"
    try qemu-img check "$images/root.qcow2"
fi

say "The same over D-Bus: every object, property and method is there"
pool=$(busctl call org.poold1 /org/poold1 org.poold1.Manager LookupPool 'sa{sv}' images 0 | cut -d'"' -f2)
try busctl call org.poold1 /org/poold1 org.poold1.Manager LookupPool 'sa{sv}' images 0
try busctl tree --list org.poold1
try busctl call org.poold1 "$pool" org.poold1.Pool CreateVolume 'sta{sv}' from-busctl.qcow2 1073741824 1 format s qcow2
try busctl get-property org.poold1 "$pool" org.poold1.Pool VolumeCount Available State

say "A file that somebody drops into the directory is a volume at once: no refresh"
poolctl monitor >monitor.log 2>&1 &
monitor=$!
# It listens once it prints anything at all, such as the job of a refresh.
for _ in $(seq 100); do
    [ ! -s monitor.log ] || break
    poolctl refresh images >/dev/null
    sleep 0.05
done
try cp images.xml "$images/foreign.img"
for _ in $(seq 100); do
    ! grep -q foreign.img monitor.log || break
    sleep 0.05
done
kill "$monitor"
wait "$monitor" 2>/dev/null || true
echo "(what 'poolctl monitor' printed meanwhile)"
grep foreign.img monitor.log
try poolctl vol show images/foreign.img

say "Sizes change, and what is needed is not deleted"
try poolctl vol resize images/data.raw 2G
refuse poolctl vol delete images/root.qcow2
try poolctl vol delete images/foreign.img

say "Somebody else: reading is free, the rest is polkit's to allow"
try as_nobody poolctl list
refuse as_nobody poolctl stop images
refuse as_nobody busctl call org.poold1 "$pool" org.poold1.Pool CreateVolume 'sta{sv}' mine.raw 1048576 0

say "kill -9, and the next call starts poold again: nothing that it had acknowledged is lost"
pid=$(busctl call org.freedesktop.DBus / org.freedesktop.DBus GetConnectionUnixProcessID s org.poold1 | cut -d' ' -f2)
before=$(poolctl --json vol list images)
try kill -9 "$pid"
while [ "$(busctl call org.freedesktop.DBus / org.freedesktop.DBus NameHasOwner s org.poold1)" = "b true" ]; do sleep 0.02; done
try poolctl vol list images
try poolctl list
if [ "$(poolctl --json vol list images)" != "$before" ]; then
    echo "demo: the volumes are not what they were" >&2
    exit 1
fi

if [ "${KEEP-}" ]; then
    cat <<END

${bold}The bus stays up.${plain} In another shell, as root:

    export DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SYSTEM_BUS_ADDRESS PATH=$work/bin:\$PATH
    poolctl list
    poolctl monitor
    busctl tree org.poold1
    busctl introspect org.poold1 $pool

Pools may be made below $work; definitions are in $POOLD_ROOT/etc/poold.
Enter (or Ctrl-C, or SIGTERM) ends it and removes everything.
END
    # Without a terminal there is nobody to press Enter.
    if [ -t 0 ]; then read -r _ || true; else sleep infinity; fi
fi

say "Taking it down"
try poolctl stop images
try poolctl delete images --volumes
try poolctl undefine images
try poolctl list
say "Done. Everything was in $POOLD_BUS_DIR, which is removed now"
