#!/bin/bash
# Runs a step file in the guest, and has what step files are written with beside tests/support/steps.sh. The agent
# starts it as root after each boot:
#
#   support.sh NAME     BOOT is how often the guest was rebooted, LIMIT how many seconds there are
#
# poold is installed, enabled and running when the file's first line runs. Disks to do anything with are
# `disk disk0` ... disk3 (virtio) and `disk scsi0` ... scsi3 (SCSI), 1 GiB each and empty.
# shellcheck disable=SC2034,SC2154 # of tests/support/steps.sh
set -uo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
AREA=guest
work=/var/tmp/steps
m() { "$@"; }
# A step's note is a descriptor that LVM's tools need not complain about.
export LVM_SUPPRESS_FD_WARNINGS=1
# shellcheck source=/dev/null
. "$here/../support/steps.sh"

# --- order and reboots

# A step file is read anew after each boot, and its steps run in the boot that they were reached in.
reached=0
selected() { [ "$reached" = "$BOOT" ]; }

# long step NAME ... or long each NAME ...: what `make test-vm QUICK=1` leaves out.
long() {
    if [ ! -e "$here/quick" ]; then
        "$@"
    elif selected "$2"; then
        skipped=$((skipped + 1))
        echo "RESULT guest $2 skip takes long: make test-vm runs it"
    fi
}

# Between steps: an orderly reboot, after which the next step runs. For files that say `# boot: cold`.
reboot() {
    if [ "$reached" = "$BOOT" ]; then
        [ "$failed" = 0 ] || touch "$work/failed"
        exit 194
    fi
    reached=$((reached + 1))
}

# The journal of this boot and the next ones is kept, for `journalctl --boot=-1`.
keep_journal() {
    mkdir -p /var/log/journal
    journalctl --flush
}

# --- disks

# disk SERIAL: its stable path.
disk() {
    local path
    case $1 in
        disk*) path=/dev/disk/by-id/virtio-$1 ;;
        *) path=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_$1 ;;
    esac
    [ -b "$path" ] || { echo "no disk $1" >&2; return 1; }
    echo "$path"
}

# unplug SERIAL and plug_in: a SCSI disk goes away as one that is pulled, and all that went are found again.
unplug() {
    local name
    name=$(basename "$(readlink -f "$(disk "$1")")")
    echo 1 >"/sys/block/$name/device/delete"
    settle
}
plug_in() {
    local host
    for host in /sys/class/scsi_host/host*; do
        [ "$(cat "$host/proc_name")" != virtio_scsi ] || echo '- - -' >"$host/scan"
    done
    settle
}

# scsi_debug [PARAMETER=VALUE...]: SCSI disks in memory, of the kernel's own driver; prints their device names.
scsi_debug() {
    local path
    modprobe scsi_debug delay=0 "$@"
    settle
    for path in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
        echo "/dev/${path##*/}"
    done
}

# drop_path N: takes away the disk of the driver's adapter (0, 1). Of two that are paths to one disk it does no I/O for the
# second.
drop_path() {
    local path
    path=$(echo "/sys/bus/pseudo/drivers/scsi_debug/adapter$1"/host*/target*/*/delete)
    echo 1 >"$path"
}

# multipathd_runs [VENDOR]: it does, and makes mpatha of what is found first at several paths, but for disks of QEMU's and of
# a vendor. I/O that no path is left for fails.
multipathd_runs() {
    cat >/etc/multipath.conf <<CONF
defaults {
    user_friendly_names yes
    find_multipaths no
    no_path_retry fail
}
blacklist {
    devnode "^vd"
    device {
        vendor "QEMU${1:+|$1}"
    }
}
CONF
    systemctl start multipathd.service
}

settle() { udevadm settle --timeout=60; }

# bytes DEVICE: its size as the kernel has it.
bytes() { blockdev --getsize64 "$1"; }

# --- pools and volumes

# define NAME [OPTION...] <<XML: `poolctl define` of the document, with the options (`--build --start`).
define() {
    local name=$1
    shift
    cat >"$work/$name.xml"
    poolctl define "$work/$name.xml" "$@"
}

# group_xml NAME DISK...: the document of a pool that is a volume group on these disks.
group_xml() {
    local name=$1 device
    shift
    echo "<pool type='logical'><name>$name</name><source>"
    for device; do echo "<device path='$(disk "$device")'/>"; done
    echo "<name>$name</name><format type='lvm2'/></source><target><path>/dev/$name</path></target></pool>"
}

# volume POOL/NAME KEY, pool_property POOL KEY: a property by its name in `poolctl --json`.
volume() { poolctl --json vol show "$1" | jq -r ".[\"$2\"]"; }
pool_property() { poolctl --json show "$1" | jq -r ".[\"$2\"]"; }

# pool_waits_for NAME WHAT: it is not up, and says why. To be waited for: it is tried again at any time, and starting then.
pool_waits_for() { pool_is "$1" inactive && is "$(pool_property "$1" waiting-for)" "$2"; }

# goes_in_and_out POOL/NAME BYTES PATH: noise that is uploaded, which stays in $work/data, is what a path to the volume has
# then, and what comes back. (BYTES as head, cmp and poolctl all read them: 4M.)
goes_in_and_out() {
    head -c "$2" /dev/urandom >"$work/data"
    poolctl vol upload "$1" "$work/data"
    cmp -n "$2" "$work/data" "$3"
    poolctl vol download "$1" --length "$2" - | cmp - "$work/data"
}

# has_volumes POOL NAME...: these and no others, in this order.
has_volumes() {
    local pool=$1
    shift
    is "$(poolctl --json vol list "$pool" | jq -r '.[].name' | xargs)" "$*"
}

# refused ERROR COMMAND...: poolctl fails with the exit status of this error: Busy, NoSpace, as in src/model/error.rs.
refused() {
    local error=$1 expected status=0
    shift
    expected=$(sed -n "s/^$error //p" "$here/errors")
    [ "$expected" ] || { echo "no error is called $error"; return 1; }
    "$@" || status=$?
    is "$status" "$expected"
}

# --- what is said

# plain: a message without what is another one each time or on another machine.
plain() {
    sed -E 's,/dev/disk/by-id/(virtio-|scsi-0QEMU_QEMU_HARDDISK_)?,/dev/disk/by-id/,g
        s,\<((sd|vd)[a-z]|dm-[0-9]+),NODE,g
        s,[[:alnum:]]{6}(-[[:alnum:]]{4}){5}-[[:alnum:]]{6},UUID,g; s,job [0-9]+,job N,g; s,process [0-9]+,process N,g
        s,\<host[0-9]+,hostN,g; s,[0-9.]+ s\>,N s,g'
}

# bus OBJECT INTERFACE METHOD [ARGUMENT...]: what busctl says, as JSON; poolctl, which has more to say, takes longer.
bus() { busctl --timeout=120 --json=short call org.poold1 "/org/poold1$1" "$2" "${@:3}"; }
state() { get "$1" State | jq -r .data; }
# last_error POOL INDEX: the name (0) or the message (1).
last_error() { get "$1" LastError | jq -r ".data[$2] | if . == \"\" then \"-\" else . end" | sed 's/^org.poold1.Error.//'; }
get() { busctl --json=short get-property org.poold1 "$(pool "$1")" org.poold1.Pool "$2"; }
# error_that_says MESSAGE STATUS: the name of the error of the job that failed with it; where the call was refused before
# there was a job, of an error that has poolctl end with this status.
error_that_says() {
    local refused
    refused=$(sed -n "s/ $2\$//p" "$here/errors" | head -n 1)
    bus /jobs org.freedesktop.DBus.ObjectManager GetManagedObjects | jq -r --arg said "$1" --arg refused "$refused" \
        '[.data[0][]."org.poold1.Job".Error.data | select(.[1] == $said)][0][0] // $refused'
}
is_now() { is "$(state "$1")" "$2"; }

# --- a virtual machine's side

# qemu PATH FORMAT [ARGUMENT...]: a real QEMU that has the path as a disk, read-write, and does not run.
qemu() {
    local path=$1 format=$2 driver=file
    shift 2
    [ ! -b "$path" ] || driver=host_device
    qemu-system-x86_64 -nodefaults -display none -machine pc -accel tcg -m 32 -S \
        -blockdev "driver=$driver,node-name=file,filename=$path" \
        -blockdev "driver=$format,node-name=disk,file=file" -device virtio-blk-pci,drive=disk "$@"
}

# qemu_opens PATH FORMAT BYTES: it does, and sees a disk of that size.
qemu_opens() {
    local size
    printf '{"execute":"%s"}\n' qmp_capabilities query-block quit | qemu "$1" "$2" -qmp stdio >"$work/qmp"
    size=$(jq -r 'select(.return | type == "array") | .return[].inserted | select(."node-name" == "disk").image["virtual-size"]' "$work/qmp")
    is "$size" "$3"
}

# hold PATH FORMAT: one keeps it open until `let_go PATH`, outside of anything of poold's.
hold() {
    # shellcheck disable=SC2016
    systemd-run --quiet --unit="$(holder "$1")" -p Type=exec bash -c '. "$0/support.sh" && qemu "$@"' "$here" "$@"
    wait_for 60 "QEMU has $1 open" is_open "$1"
}
let_go() {
    systemctl stop "$(holder "$1")"
    wait_for 60 "nobody has $1 open" not is_open "$1"
}
held() { systemctl is-active "$(holder "$1")" && is_open "$1"; }
holder() { systemd-escape --suffix=service holder-"$1"; }
is_open() { fuser -s "$(readlink -f "$1")"; }

# --- users

# as USER COMMAND...: without a session, as a service would run.
as() { runuser -u "$1" -- "${@:2}"; }

# Read for its functions only?
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

mkdir -p "$work"
# What hangs is said before the host ends the guest.
(
    sleep $((LIMIT - 15))
    echo "    hangs; the step said:"
    sed 's/^/    | /' "$work/step.log"
    # Not the kernel's own, which have [names].
    ps -eo pid,ppid,stat,wchan:20,args --forest | sed -n '/\]$/!s/^/    ps: /p'
    journalctl --no-pager --quiet -n 20 | sed 's/^/    journal: /'
) &
# shellcheck source=/dev/null
. "$here/lio.sh"
# shellcheck source=/dev/null
. "$here/types.sh"
if [ "$BOOT" = 0 ]; then
    # systemd reads units that it has never seen without a daemon-reload, which takes three seconds here.
    systemctl --quiet --no-reload enable poold.socket poold.service
    busctl --quiet call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig
    systemctl start poold.socket poold.service
fi
# shellcheck source=/dev/null
. "$here/steps/$1.sh"
[ "$failed" = 0 ] && [ ! -e "$work/failed" ]
