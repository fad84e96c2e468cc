# shellcheck shell=bash disable=SC2154
# Pools over reboots.
# boot: cold
# limit: 3600

auto_and_manual_pools_are_made() {
    "$1_make" "auto-$1" 1
    poolctl autostart "auto-$1"
    [[ " ${SINGLE[*]} " != *" $1 "* ]] || return 0
    "$1_make" "stopped-$1" 2
    poolctl autostart "stopped-$1"
    poolctl autostart --disable "stopped-$1"
}

# The directory of one is on a disk that nothing mounts, the other is the disk; neither disk is there at the next boot.
pools_are_made_on_disks_that_will_be_late() {
    mkfs.ext4 -q -L late "$(disk scsi3)"
    mkdir /srv/late
    mount LABEL=late /srv/late
    define late --build --start <<XML
<pool type='dir'><name>late</name><target><path>/srv/late/images</path></target></pool>
XML
    poolctl vol create late/one 64M
    poolctl autostart late
    define late-fs --build --start --autostart <<XML
<pool type='fs'><name>late-fs</name><source><device path='$(disk scsi2)'/><format type='ext4'/></source>
<target><path>/srv/late-fs</path></target></pool>
XML
    poolctl vol create late-fs/one 64M
    cat >/etc/systemd/system/unplug.service <<UNIT
[Unit]
DefaultDependencies=no
After=systemd-udev-settle.service
Wants=systemd-udev-settle.service
Before=local-fs.target poold.service
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'for disk in $(disk scsi2) $(disk scsi3); do echo 1 >/sys/block/\$(basename \$(readlink -f \$disk))/device/delete; done'
[Install]
WantedBy=sysinit.target
UNIT
    systemctl enable unplug.service
}

# A volume is held open, as by a guest that the shutdown ends too.
the_machine_is_left_in_the_middle_of_things() {
    keep_journal
    hold "$(dir_path auto-dir)" raw
    poolctl vol create auto-dir/large 10M
}

step the_machine_starts_with_seccomp_on systemctl is-active poold.service
each auto_and_manual_pools_are_made
step pools_are_made_on_disks_that_will_be_late
step the_machine_is_left_in_the_middle_of_things

reboot

# Nobody calls poold before this: what its log says comes first.
autostart_pools_are_active_without_a_call() {
    wait_for 120 "poold runs" unit_is poold.service ActiveState active
    wait_for 120 "its log says so" says "pool-start of pool auto-$1 is done"
    not says calls
}
# Not by a pipe that grep would leave while the journal is still being written to it.
says() {
    journalctl --quiet --boot -u poold.service -o cat >"$work/journal"
    grep -q "$1" "$work/journal"
}

is_as_it_was_left() {
    is_usable "$1" "auto-$1"
    [[ " ${SINGLE[*]} " == *" $1 "* ]] || pool_is "stopped-$1" inactive
}

the_shutdown_ended_the_service_in_order() {
    journalctl --quiet --boot=-1 -o cat -u poold.service >"$work/journal"
    tail "$work/journal"
    grep -q 'ending: asked to' "$work/journal"
    grep -q 'poold.service: Deactivated successfully' "$work/journal"
    not grep -E 'timed out|SIGKILL|status=|Failed' "$work/journal"
    # Nothing of the storage had to be waited for or was left mounted.
    not journalctl --quiet --boot=-1 -o cat --grep 'stop job is running|(State .*|Unmounting) timed out|Failed unmounting'
}

pools_whose_disks_appear_late_become_active_by_themselves() {
    not test -e /dev/disk/by-label/late
    wait_for 30 "it waits" pool_waits_for late "directory /srv/late/images"
    wait_for 30 "it waits" pool_waits_for late-fs "device /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_scsi2"
    plug_in
    wait_for 30 "the disk is there" test -b /dev/disk/by-label/late
    wait_for 30 "it still waits" pool_waits_for late "directory /srv/late/images"
    wait_for 60 "the pool on a disk is active" pool_is late-fs active
    qemu_opens "$(poolctl vol path late-fs/one)" raw $((64 << 20))
    mount LABEL=late /srv/late
    wait_for 60 "the pool is active" pool_is late active
    qemu_opens "$(poolctl vol path late/one)" raw $((64 << 20))
}

each autostart_pools_are_active_without_a_call
each is_as_it_was_left
step the_shutdown_ended_the_service_in_order
step pools_whose_disks_appear_late_become_active_by_themselves
