# shellcheck shell=bash
# limit: 900
# Pools of the type scsi: disks behind an adapter, one that is plugged in later, and virtual HBAs (their control plane:
# behind them is no fabric here, so no disk).

# The number of QEMU's own SCSI host.
hba() {
    local host
    for host in /sys/class/scsi_host/host*; do
        [ "$(cat "$host/proc_name")" != virtio_scsi ] || echo "${host##*host}"
    done
}

# scsi_pool NAME ADAPTER [OPTION...]
scsi_pool() {
    local name=$1 adapter=$2
    shift 2
    define "$name" "$@" <<XML
<pool type='scsi'><name>$name</name><source>$adapter</source><target><path>/dev/disk/by-path</path></target></pool>
XML
}

the_disks_of_an_adapter_are_its_volumes() {
    scsi_pool hba "<adapter type='scsi_host' name='scsi_host$(hba)'/>" --start
    pool_is hba active
    has_volumes hba unit:0:0:0 unit:0:0:1 unit:0:0:2 unit:0:0:3
    is "$(volume hba/unit:0:0:1 capacity)" "$(bytes "$(disk scsi1)")"
    is "$(readlink -f "$(volume hba/unit:0:0:1 path)")" "$(readlink -f "$(disk scsi1)")"
    is "$(dirname "$(volume hba/unit:0:0:1 path)")" /dev/disk/by-path
    is "$(volume hba/unit:0:0:1 key)" "$(/lib/udev/scsi_id --replace-whitespace --whitelisted "$(disk scsi1)")"
    poolctl vol show "$(volume hba/unit:0:0:1 path)"
    qemu_opens "$(volume hba/unit:0:0:2 path)" raw $((1 << 30))
}
step the_disks_of_an_adapter_are_its_volumes

data_goes_in_and_out_and_across() {
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
    goes_in_and_out hba/unit:0:0:1 8M "$(disk scsi1)"
    poolctl vol clone hba/unit:0:0:1 files/copy.qcow2 --format qcow2
    qemu-img compare -f raw -F qcow2 "$(disk scsi1)" /srv/files/copy.qcow2
    poolctl vol wipe hba/unit:0:0:1
    not cmp -n 4096 "$work/data" "$(disk scsi1)"
    cmp -n $((8 << 20)) /dev/zero "$(disk scsi1)"
    refused NotSupported poolctl vol create hba/new 1M
    refused NotSupported poolctl vol delete hba/unit:0:0:1
    poolctl vol delete files/copy.qcow2
}
long step data_goes_in_and_out_and_across

what_is_in_use_is_not_written() {
    head -c 8M /dev/urandom >"$work/data"
    mkfs.ext4 -q "$(disk scsi2)"
    mount "$(disk scsi2)" /mnt
    refused Busy poolctl vol upload hba/unit:0:0:2 "$work/data"
    refused Busy poolctl vol wipe hba/unit:0:0:2
    umount /mnt
    hold "$(disk scsi2)" raw
    refused Busy poolctl vol wipe hba/unit:0:0:2
    let_go "$(disk scsi2)"
    poolctl vol wipe hba/unit:0:0:2 --algorithm trim || poolctl vol wipe hba/unit:0:0:2
}
step what_is_in_use_is_not_written

disks_come_and_go_by_themselves() {
    unplug scsi3
    wait_for 20 "the disk is no volume any more" not poolctl vol show hba/unit:0:0:3
    plug_in
    wait_for 20 "the disk is a volume again" poolctl vol show hba/unit:0:0:3
    unplug scsi3
    # The adapter is asked to look.
    poolctl refresh hba
    has_volumes hba unit:0:0:0 unit:0:0:1 unit:0:0:2 unit:0:0:3
}
step disks_come_and_go_by_themselves

an_adapter_is_found_by_its_pci_address() {
    local device address unique
    poolctl stop hba
    pool_is hba inactive
    device=$(readlink -f "/sys/class/scsi_host/host$(hba)")
    address=$(grep -o '0000:[0-9a-f:.]*' <<<"$device" | tail -n 1)
    unique=$(cat "/sys/class/scsi_host/host$(hba)/unique_id")
    scsi_pool bypci "<adapter type='scsi_host'><parentaddr unique_id='$unique'><address domain='0x0000' bus='0x${address:5:2}' slot='0x${address:8:2}' function='0x${address:11}'/></parentaddr></adapter>" --start
    has_volumes bypci unit:0:0:0 unit:0:0:1 unit:0:0:2 unit:0:0:3
    poolctl stop bypci
    poolctl undefine bypci
    poolctl undefine hba
    scsi_pool gone "<adapter type='scsi_host' name='scsi_host77'/>"
    refused Inaccessible poolctl start gone
    poolctl undefine gone
}
long step an_adapter_is_found_by_its_pci_address

an_adapter_that_comes_later_is_started_by_itself() {
    local host
    modprobe scsi_debug dev_size_mb=8 num_tgts=1
    settle
    host=$(basename "$(ls -d /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*)")
    wait_for 60 "nobody looks at its disks" modprobe -r scsi_debug
    # The next adapter will have the same number.
    scsi_pool later "<adapter type='scsi_host' name='$host'/>" --autostart
    poolctl autostart || true
    wait_for 30 "it waits" pool_is later inactive
    modprobe scsi_debug dev_size_mb=8 num_tgts=1 delay=0
    wait_for 60 "the pool is active" pool_is later active
    is "$(volume later/unit:0:0:0 capacity)" $((8 << 20))
    # The adapter goes, and the pool with it.
    wait_for 60 "nobody looks at its disks" modprobe -r scsi_debug
    wait_for 60 "the pool is inaccessible" pool_is later inaccessible
    poolctl stop later
    poolctl undefine later
}
step an_adapter_that_comes_later_is_started_by_itself

a_virtual_hba_is_made_and_removed() {
    local parent control
    ip link add fc0 type veth peer name fc1
    ip link set fc0 up
    ip link set fc1 up
    modprobe fcoe
    echo fc0 >/sys/bus/fcoe/ctlr_create
    control=$(echo /sys/bus/fcoe/devices/ctlr_*)
    echo 1 >"$control/enabled"
    wait_for 20 "there is an HBA" test -e /sys/class/fc_host/host*/vport_create
    parent=$(basename /sys/class/fc_host/host*)
    scsi_pool vhba "<adapter type='fc_host' parent='scsi_$parent' wwnn='20000000c9831b4c' wwpn='10000000c9831b4c'/>"
    poolctl start vhba
    pool_is vhba active
    is "$(cat /sys/class/fc_host/host*/port_name | grep -c 0x10000000c9831b4c)" 1
    poolctl stop vhba
    is "$(cat /sys/class/fc_host/host*/port_name | grep -c 0x10000000c9831b4c)" 0

    # One that is there is left as it was found, unless told otherwise.
    echo 10000000c9831b4c:20000000c9831b4c >"/sys/class/fc_host/$parent/vport_create"
    wait_for 20 "the vHBA is there" grep -q 0x10000000c9831b4c /sys/class/fc_host/host*/port_name
    poolctl start vhba
    poolctl stop vhba
    is "$(cat /sys/class/fc_host/host*/port_name | grep -c 0x10000000c9831b4c)" 1
    poolctl start vhba
    poolctl stop vhba --release
    is "$(cat /sys/class/fc_host/host*/port_name | grep -c 0x10000000c9831b4c)" 0
    poolctl undefine vhba
}
step a_virtual_hba_is_made_and_removed
