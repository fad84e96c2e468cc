# shellcheck shell=bash disable=SC2154
# limit: 1800
# What the unit forbids the service, enforced by systemd and this kernel; and that all types work nevertheless.

# 10 is a service without any confinement. It may become better, not worse.
systemd_gives_the_unit_a_figure() {
    local said figure
    said=$(systemd-analyze --no-pager security poold.service)
    grep '✗' <<<"$said"
    figure=$(sed -n 's/.*exposure level for poold.service: \([0-9.]*\) .*/\1/p' <<<"$said")
    echo "exposure level $figure" >&3
    systemd-analyze --no-pager security --threshold=57 poold.service >/dev/null
}

# A shell in poold's place tries what poold must not be able to do.
what_the_unit_forbids_fails() {
    grep -q 'Seccomp:.*2' "/proc/$(daemon_pid)/status"
    drop_in trial '[Service]' Type=oneshot Restart=no WatchdogSec=0 ExecStart= \
        "ExecStart=/bin/bash /opt/test/guest/trial" StandardOutput=file:/run/trial StandardError=file:/run/trial
    # Each line a command that must fail, or after "may" one that must not.
    cat >/opt/test/guest/trial <<'SH'
try() { if "$@"; then echo "allowed: $*"; else echo "refused: $*"; fi; }
try unshare --mount true
try unshare --user true
try hostname other
try date --set=@0
try chmod u+s "$(mktemp /var/tmp/trial.XXXXXX)"
try insmod /lib/modules/*/kernel/drivers/block/brd.ko
try reboot --force --force
try dd if=/dev/mem of=/dev/null bs=1 count=1
try python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)'
try python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
try python3 -c 'import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))'
echo may
try mount -t tmpfs trial /mnt
try umount /mnt
try losetup --show -f /etc/hostname
try losetup -D
try dd if=/dev/disk/by-id/virtio-disk0 of=/dev/null count=1
try dd if=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_scsi0 of=/dev/null count=1
try sg_inq /dev/sg0
try mknod /run/trial.node b 7 0
try chown alice /run/trial.node
SH
    systemctl restart poold.service
    drop_in_away trial
    systemctl restart poold.service
    cat /run/trial
    is "$(sed '/^may/,$d' /run/trial | sed -n 's/^allowed: //p')" ""
    is "$(sed '1,/^may/d' /run/trial | sed -n 's/^refused: //p')" ""
    is "$(grep -c '^refused: ' /run/trial)/$(grep -c '^allowed: ' /run/trial)" 11/9
}

# A core dump would have secrets. The kernel gives them to a program here, as systemd-coredump is one, and 0 as their greatest
# size does not keep it from that.
nothing_of_it_is_in_a_core_dump() {
    local pattern before
    pattern=$(cat /proc/sys/kernel/core_pattern)
    mkdir /var/tmp/cores
    echo '|/bin/cp /dev/stdin /var/tmp/cores/%e' >/proc/sys/kernel/core_pattern
    # One that it is not kept from.
    not prlimit --core=0 python3 -c 'import os; os.abort()'
    wait_for 20 "the other is dumped" test -s /var/tmp/cores/python3

    # A program of its.
    mv /usr/bin/qemu-img /usr/bin/qemu-img.real
    printf '#!/usr/bin/python3\nimport os\nopen("/var/tmp/cores.began", "w")\nos.abort()\n' >/usr/bin/qemu-img
    chmod 755 /usr/bin/qemu-img
    rm /var/tmp/cores/*
    define cores --build --start <<XML
<pool type='dir'><name>cores</name><target><path>/srv/cores</path></target></pool>
XML
    not poolctl vol create cores/one 1M --format vdi
    mv /usr/bin/qemu-img.real /usr/bin/qemu-img
    test -e /var/tmp/cores.began

    # And it itself.
    before=$(daemon_pid)
    kill -ABRT "$before"
    wait_for 30 "it has ended" not test -e "/proc/$before"
    poolctl list
    sleep 2
    is "$(ls /var/tmp/cores)" ""
    echo "$pattern" >/proc/sys/kernel/core_pattern
    poolctl stop cores
    poolctl delete cores
    poolctl undefine cores
}

# All that a type's tools do they do in poold's confinement.
all_of_a_type_works_in_it() {
    local pool=confined-$1
    "$1_make" "$pool" 1
    is_usable "$1" "$pool"
    poolctl vol delete "$pool/$("$1_name" "$pool")" || [ $? = 9 ]
    poolctl refresh "$pool"
    poolctl stop "$pool"
    poolctl start "$pool"
    poolctl stop "$pool"
    poolctl undefine "$pool"
    grep -q 'Seccomp:.*2' "/proc/$(daemon_pid)/status"
}

step systemd_gives_the_unit_a_figure
step what_the_unit_forbids_fails
step nothing_of_it_is_in_a_core_dump
long each all_of_a_type_works_in_it
