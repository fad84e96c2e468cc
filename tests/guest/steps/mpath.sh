# shellcheck shell=bash
# quick: no
# limit: 900
# Pools of the type mpath: multipath devices, as multipathd makes them of two paths to one disk.

has_paths() { is "$(poolctl --json vol show paths/mpatha | jq '."member-paths" | length')" "$1"; }

two_paths_are_one_volume() {
    multipathd_runs
    define paths --start <<XML
<pool type='mpath'><name>paths</name><target><path>/dev/mapper</path></target></pool>
XML
    has_volumes paths ''
    modprobe scsi_debug delay=0 vpd_use_hostno=0 add_host=2 dev_size_mb=64
    wait_for 60 "the device is a volume" poolctl vol show paths/mpatha
    settle
    is "$(volume paths/mpatha path)" /dev/mapper/mpatha
    is "$(volume paths/mpatha capacity)" $((64 << 20))
    is "$(volume paths/mpatha key)" "$(dmsetup info -c --noheadings -o uuid mpatha | sed 's/^mpath-//')"
    wait_for 20 "both paths are told" has_paths 2
    qemu_opens /dev/mapper/mpatha raw $((64 << 20))
}
step two_paths_are_one_volume

data_goes_in_and_out() {
    goes_in_and_out paths/mpatha 4M /dev/mapper/mpatha
    poolctl vol wipe paths/mpatha
    cmp -n $((4 << 20)) /dev/zero /dev/mapper/mpatha
    hold /dev/mapper/mpatha raw
    refused Busy poolctl vol wipe paths/mpatha
    let_go /dev/mapper/mpatha
}
step data_goes_in_and_out

a_path_of_it_is_busy() {
    local path host
    path=$(poolctl --json vol show paths/mpatha | jq -r '."member-paths"[0]')
    host=$(readlink -f "/sys/class/block/$(basename "$path")" | grep -o '/host[0-9]*' | head -n 1)
    define adapter --start <<XML
<pool type='scsi'><name>adapter</name><source><adapter type='scsi_host' name='${host#/}'/></source>
<target><path>/dev</path></target></pool>
XML
    refused Busy poolctl vol wipe adapter/unit:0:0:0
    refused Busy poolctl vol upload adapter/unit:0:0:0 "$work/data"
    poolctl stop adapter
    poolctl undefine adapter
}
step a_path_of_it_is_busy

paths() { poolctl --json vol show paths/mpatha | jq -r '."member-paths"[]'; }
one_path() { is "$(paths | wc -l)" 1; }

a_path_that_goes_is_no_path_of_it() {
    drop_path 1
    wait_for 60 "one path is left" one_path
    poolctl vol download paths/mpatha --length 4M - | cmp - <(head -c 4M /dev/zero)
}
step a_path_that_goes_is_no_path_of_it

a_device_that_goes_is_no_volume() {
    multipath -f mpatha
    wait_for 20 "it is no volume" not poolctl vol show paths/mpatha
    poolctl stop paths
    poolctl undefine paths
    systemctl stop multipathd
}
step a_device_that_goes_is_no_volume
