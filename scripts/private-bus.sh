#!/bin/bash
# private-bus.sh [--root DIR] [--poold PROGRAM] [-- COMMAND...]: a system bus of one's own, with polkit and poold on it.
#
# Starts dbus-daemon as a system bus below a temporary directory, with the project's bus policy and, where polkitd is
# installed, the real one with the project's actions. poold is started by its bus name, on the data below the root
# (default: the temporary directory). Everything happens in a mount namespace of its own: the host's bus, polkit rules
# and /run/dbus are not touched.
#
# COMMAND runs with DBUS_SYSTEM_BUS_ADDRESS, POOLD_BUS_DIR (rules/ in it is polkit's, read again when it changes) and
# POOLD_ROOT; when it ends, so does everything on the bus. Without a COMMAND these are printed as lines NAME=VALUE,
# with POOLD_BUS_PID, a process in the namespace, and the bus lasts until standard input ends.
set -euo pipefail

tree=$(dirname "$(dirname "$(readlink -f "$0")")")

if [ "${POOLD_PRIVATE_BUS_INSIDE-}" != "$$" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "private-bus: needs root, for a mount namespace and a service that runs as root" >&2
        exit 1
    fi
    # The exec keeps the process id, which tells the second round from the first. Mounts made on the host later are
    # seen inside; none made inside is seen on the host.
    export POOLD_PRIVATE_BUS_INSIDE=$$
    exec unshare --mount --propagation slave "$0" "$@"
fi

root='' poold=$tree/target/debug/poold
while [ $# -gt 0 ]; do
    case $1 in
    --root) root=$(readlink -f "$2") && shift 2 ;;
    --poold) poold=$(readlink -f "$2") && shift 2 ;;
    --) shift && break ;;
    *) sed -n '2s/^# //p' "$0" >&2 && exit 2 ;;
    esac
done
[ -x "$poold" ] || { echo "private-bus: no program at $poold; build it, or say --poold PROGRAM" >&2; exit 1; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/poold-bus.XXXXXX")
chmod 755 "$dir"
root=${root:-$dir/root}
mkdir -p "$root"

# What runs on this bus was started by this script and has this in its environment; nothing else on the host has.
export POOLD_BUS_DIR=$dir
ours() {
    grep -lszxF "POOLD_BUS_DIR=$dir" /proc/[0-9]*/environ 2>/dev/null | grep -o '[0-9]*' || true
}

# SIGTERM first, so that poold ends as it would at shutdown; then what did not heed it, frozen or not.
finish() {
    trap - EXIT
    trap '' INT TERM HUP
    export -n POOLD_BUS_DIR
    local pids left _
    pids=$(ours)
    if [ -n "$pids" ]; then
        # shellcheck disable=SC2086
        kill -TERM $pids 2>/dev/null || true
        for _ in $(seq 50); do
            left=$(ours)
            [ -n "$left" ] || break
            sleep 0.1
        done
        # shellcheck disable=SC2086
        [ -z "$left" ] || kill -KILL $left 2>/dev/null || true
    fi
    wait
    rm -rf --one-file-system "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$dir/services" "$dir/rules" "$dir/no-rules" "$dir/actions" "$dir/run"
cat >"$dir/services/org.poold1.service" <<END
[D-BUS Service]
Name=org.poold1
Exec=$poold --address unix:path=$dir/bus --root $root
User=root
END

polkitd=
for candidate in /usr/lib/polkit-1/polkitd /usr/libexec/polkitd /usr/lib/polkitd; do
    [ ! -x "$candidate" ] || polkitd=$candidate
done
if [ "${POOLD_NO_POLKIT-}" ]; then
    polkitd=
elif [ -z "$polkitd" ]; then
    echo "private-bus: polkitd is not installed; on this bus only root may change things" >&2
fi
if [ -n "$polkitd" ]; then
    printf '[D-BUS Service]\nName=org.freedesktop.PolicyKit1\nExec=%s --no-debug\nUser=root\n' "$polkitd" \
        >"$dir/services/org.freedesktop.PolicyKit1.service"
    cp "$tree"/polkit/*.policy "$dir/actions/"
    # polkitd reads its rules as its own user.
    chmod 755 "$dir/rules" "$dir/no-rules" "$dir/actions"
    mount --bind "$dir/actions" /usr/share/polkit-1/actions
    mount --bind "$dir/rules" /etc/polkit-1/rules.d
    for rules in /usr/share/polkit-1/rules.d /usr/local/share/polkit-1/rules.d /run/polkit-1/rules.d; do
        [ ! -d "$rules" ] || mount --bind "$dir/no-rules" "$rules"
    done
fi

# As /usr/share/dbus-1/system.conf, without what belongs to the host: its services, its helper, its own policies.
cat >"$dir/bus.conf" <<END
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=$dir/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>$dir/services</servicedir>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus" send_member="UpdateActivationEnvironment"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <include ignore_missing="yes">/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>
  <include>$tree/dbus/org.poold1.conf</include>
</busconfig>
END
# Something on the host may look for the system bus where it always is; here it finds none rather than the host's.
mount --bind "$dir/run" /run/dbus 2>/dev/null || true

export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$dir/bus POOLD_ROOT=$root
# In the background, so that this shell reaps it.
dbus-daemon --config-file="$dir/bus.conf" --nofork --nopidfile --print-address=3 3>"$dir/address" 2>"$dir/bus.log" &
bus=$!
until [ -s "$dir/address" ]; do
    kill -0 $bus 2>/dev/null || { cat "$dir/bus.log" >&2; echo "private-bus: dbus-daemon did not start" >&2; exit 1; }
    sleep 0.02
done

if [ $# -gt 0 ]; then
    # In the background, as a signal is heard only between commands; it ends the command, too.
    "$@" <&0 &
    wait $! && status=0 || status=$?
    exit "$status"
fi
printf '%s\n' "DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SYSTEM_BUS_ADDRESS" "POOLD_BUS_DIR=$dir" "POOLD_ROOT=$root" "POOLD_BUS_PID=$$" READY
exec 1>&2
cat >/dev/null
