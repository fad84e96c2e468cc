# shellcheck shell=bash disable=SC2154
# What the steps that are about all types of pools know of each. A row is three functions and a word in TYPES:
#
#   TYPE_make POOL    defines, builds and starts a pool on storage of its own, with a volume `one` of 64 MiB (raw)
#   TYPE_path POOL    the path of that volume
#   TYPE_name POOL    its name
#
# The storage must be there again after a reboot. Nobody else in these files uses the disks named here.

TYPES=(dir)

dir_make() {
    define "$1" --build --start <<XML
<pool type='dir'><name>$1</name><target><path>/srv/$1</path></target></pool>
XML
    poolctl vol create "$1/one" 64M
}
dir_path() { echo "/srv/$1/one"; }
dir_name() { echo one; }

# each STEP [FUNCTION [ARGUMENT...]]: the step for each type, STEP.TYPE, with the type as the last argument.
each() {
    local type name=$1
    [ $# = 1 ] || shift
    for type in "${TYPES[@]}"; do step "$name.$type" "$@" "$type"; done
}

# is_usable TYPE POOL: the pool is active, its volume listed, and of use to a real QEMU.
is_usable() {
    local path
    pool_is "$2" active
    path=$("$1_path" "$2")
    poolctl vol show "$2/$("$1_name" "$2")"
    is "$(volume "$2/$("$1_name" "$2")" path)" "$path"
    qemu_opens "$path" raw $((64 << 20))
}
