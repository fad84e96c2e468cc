# shellcheck shell=bash disable=SC2154
# quick: no
# boot: cold
# limit: 1800
# Pools that are started at boot, on servers that are stopped, frozen or something else then, as docs/dead-servers.md has it.
# shellcheck source=/dev/null
. "$here/matrix.sh"

cells=()
for type in nfs iscsi; do
    for fault in "${FAULTS[@]}"; do cells+=("$type-$fault-boot"); done
done

pools_are_to_start_at_boot() {
    local cell
    begin_matrix
    poolctl autostart others
    for cell in "${cells[@]}"; do
        IFS=- read -r type fault _ <<<"$cell"
        "${type}_pool" "$cell" "$("${type}_address" "$fault")"
        poolctl autostart "$cell"
    done
    cat >/etc/systemd/system/dead-servers.service <<UNIT
[Unit]
Before=poold.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash -ec '. $here/support.sh; . $here/lio.sh; . $here/matrix.sh; servers_are_dead_at_boot ${cells[*]}'
[Install]
WantedBy=multi-user.target
UNIT
    systemctl --quiet --no-reload enable dead-servers.service
}

# Nobody calls poold before this.
the_machine_is_up() {
    local cell
    "$here/calls.py" 1000 "${cells[@]}" >"$work/beside"
    for cell in "${cells[@]}"; do try "$cell" see_start "$cell"; done
    for cell in "${cells[@]}"; do
        IFS=- read -r type fault _ <<<"$cell"
        [ "$type" != nfs ] || nfs_serve "$fault"
        mend_server "$type" "$fault"
    done
    for cell in "${cells[@]}"; do try "$cell" comes_back "$cell"; done
    "$here/calls.py" 300 "${cells[@]}" >"$work/without"
    ratio >&3
}

step boot.pools pools_are_to_start_at_boot

reboot

step boot.servers the_machine_is_up
for cell in "${cells[@]}"; do
    IFS=- read -r type fault _ <<<"$cell"
    step "$type.$fault.boot" as_in_the_table "$type" "$fault" boot
done
