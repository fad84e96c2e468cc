# shellcheck shell=bash
# A machine: the cached Debian root under an overlay, booted by systemd-nspawn with systemd as its
# PID 1. Sourced by run.sh, in a mount namespace of its own, so that all mounts end with it.
#
#   machine_prepare CACHED WORK   mounts the root at $MACHINE
#   machine_boot                  boots it and waits until it is up
#   m COMMAND...                  runs a command in it, as root
#   machine_reboot                reboots from within, as a user would
#   machine_off                   powers off
#   machine_clean                 ends everything, whatever state it is in

MACHINE=            # the root, as seen from here
MACHINE_DIR=        # what is kept of the machine: console, pid of its systemd, nspawn's exit status
MACHINE_TOOLS=      # unpacked systemd-container
MACHINE_CGROUP=     # everything in the machine is in here

# The cgroup2 mount, or nothing.
cgroup2_mount() {
    awk '{ for (i = 7; i < NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' \
        /proc/self/mountinfo
}

# Ends what runs in a cgroup and removes it. The kernel takes a moment to let go of the dead.
cgroup_end() {
    local cgroup=$1 tries
    [ -d "$cgroup" ] || return 0
    echo 1 >"$cgroup/cgroup.kill"
    for tries in $(seq 200); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && return 0
        sleep 0.05
    done
    echo "cannot remove $cgroup after $tries tries" >&2
    return 1
}

machine_prepare() {
    local cached=$1 work=$2 base stale
    base=$(cgroup2_mount)
    # Machines whose run.sh was killed go on running: end them.
    for stale in "$base"/poold-host.*; do
        [ ! -d "$stale" ] || [ -d "/proc/${stale##*.}" ] || cgroup_end "$stale"
    done
    for stale in "${work%/*}"/poold-host.*.*; do
        stale=${stale%.*}
        [ -d "/proc/${stale##*.}" ] || rmdir "$stale".*
    done
    MACHINE_CGROUP=$base/poold-host.$$
    MACHINE_TOOLS=$cached/tools
    MACHINE_DIR=$work
    MACHINE=$work/root
    mkdir -p "$work"/{root,upper,overlay,srv/frozen}
    mount -t overlay -o "lowerdir=$cached/root,upperdir=$work/upper,workdir=$work/overlay" \
        overlay "$MACHINE"
    # A file system that can be made to hang, by fsfreeze from here.
    truncate -s 64M "$work/frozen.img"
    mkfs.ext4 -q "$work/frozen.img"
    mount -o loop "$work/frozen.img" "$work/srv/frozen"
    mkdir "$MACHINE_CGROUP"
}

# nspawn takes the cgroup that it is in for the machine's, and wants a cgroup file system that is
# version 2 alone. /srv is a file system of its own, as image files have in life; /srv/frozen another.
machine_nspawn() {
    local status=0
    LD_LIBRARY_PATH=$(echo "$MACHINE_TOOLS"/usr/lib/*-linux-gnu/systemd) \
        sh -c 'echo $$ >"$1/cgroup.procs"; shift
            exec unshare -m --propagation private sh -c "
                umount -R /sys/fs/cgroup
                mount -t cgroup2 none /sys/fs/cgroup
                exec \"\$@\"" sh "$@"' sh "$MACHINE_CGROUP" \
        "$MACHINE_TOOLS/usr/bin/systemd-nspawn" --quiet --keep-unit --register=no \
        -D "$MACHINE" --link-journal=no --private-network --boot --console=pipe --kill-signal=SIGRTMIN+4 \
        --capability=all --bind="$MACHINE_DIR/srv:/srv" \
        >>"$MACHINE_DIR/console" 2>&1 </dev/null || status=$?
    echo "$status" >"$MACHINE_DIR/status"
}

machine_boot() {
    rm -f "$MACHINE_DIR/status" "$MACHINE_DIR/leader"
    machine_nspawn &
    wait_for 30 "the machine starts" machine_find_leader
    wait_for 60 "the machine is up" machine_is_up
}

# The machine's systemd is the only one of that name that is PID 1 of its namespace in our cgroup.
machine_find_leader() {
    local pid
    [ ! -e "$MACHINE_DIR/status" ] || { echo "systemd-nspawn ended"; cat "$MACHINE_DIR/console"; exit 1; }
    while read -r pid; do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = systemd ] &&
            [ "$(awk '/^NSpid:/ { print $NF }' "/proc/$pid/status")" = 1 ]; then
            echo "$pid" >"$MACHINE_DIR/leader"
            return 0
        fi
    done < <(find "$MACHINE_CGROUP" -name cgroup.procs -exec cat {} +)
    return 1
}

machine_is_up() {
    case $(m systemctl is-system-running 2>/dev/null) in
        running | degraded) true ;;
        *) false ;;
    esac
}

m() {
    nsenter -t "$(cat "$MACHINE_DIR/leader")" -a -- env -i HOME=/root LC_ALL=C.UTF-8 TERM=dumb \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Waits until nspawn has ended, and that it did so as expected.
machine_ended() {
    wait_for 60 "the machine ends" test -e "$MACHINE_DIR/status"
    [ "$(cat "$MACHINE_DIR/status")" = "$1" ]
}

machine_reboot() {
    m systemctl reboot --no-block
    machine_ended 133
    machine_boot
}

machine_off() {
    m systemctl poweroff --no-block
    machine_ended 0
}

machine_clean() {
    fsfreeze -u "$MACHINE_DIR/srv/frozen" 2>/dev/null
    [ -z "$MACHINE_CGROUP" ] || cgroup_end "$MACHINE_CGROUP"
    MACHINE_CGROUP=
}
