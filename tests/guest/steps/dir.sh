# shellcheck shell=bash
# quick: no
# Pools of the type dir, as the guest's own tools see them. (What the type can do in itself is the bus tier's.)

a_directory_pool_is_built_used_and_removed() {
    define images --build --start <<XML
<pool type='dir'><name>images</name><target><path>/srv/images</path></target></pool>
XML
    pool_is images active
    poolctl vol create images/one.raw 64M
    poolctl vol create images/two.qcow2 1G --format qcow2
    has_volumes images one.raw two.qcow2
    is "$(stat -c %s /srv/images/one.raw)" $((64 << 20))
    qemu-img check /srv/images/two.qcow2
    qemu_opens /srv/images/one.raw raw $((64 << 20))
    qemu_opens /srv/images/two.qcow2 qcow2 $((1 << 30))

    hold /srv/images/one.raw raw
    refused Busy poolctl vol resize images/one.raw 32M --shrink
    let_go /srv/images/one.raw
    poolctl vol resize images/one.raw 96M
    is "$(stat -c %s /srv/images/one.raw)" $((96 << 20))

    poolctl stop images
    poolctl delete images --volumes
    not test -e /srv/images
    poolctl undefine images
}
step a_directory_pool_is_built_used_and_removed
