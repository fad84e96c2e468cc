# shellcheck shell=bash disable=SC2154
# Pools over restarts and reboots, and what the journal says of them.

images_can_be_made_in_a_pool_that_starts_at_boot() {
    m busctl call org.poold1 /org/poold1 org.poold1.Manager DefinePool 'ssa{sv}a{sv}' \
        dir images 1 target s /srv/images 3 build s yes start b true autostart b true
    m busctl call org.poold1 "$(pool images)" org.poold1.Pool CreateVolume 'sta{sv}' \
        guest.qcow2 1073741824 1 format s qcow2
    m qemu-img check /srv/images/guest.qcow2
    # Another that starts at boot, to be stopped; and one that does not.
    m busctl call org.poold1 /org/poold1 org.poold1.Manager DefinePool 'ssa{sv}a{sv}' \
        dir stopped 1 target s /srv/stopped 3 build s yes start b true autostart b true
    m busctl call org.poold1 /org/poold1 org.poold1.Manager DefinePool 'ssa{sv}a{sv}' \
        dir manual 1 target s /srv/manual 2 build s yes start b true
}

the_journal_has_fields_for_pool_volume_job_and_caller() {
    local entry
    m runuser -u alice -- poolctl list
    entry=$(m journalctl --quiet --no-pager -o json -u poold.service \
        POOLD_POOL=images POOLD_VOLUME=guest.qcow2 POOLD_CALLER_UID=0 | tail -n 1)
    grep -q '"POOLD_JOB":"[0-9]' <<<"$entry"
    grep -q '"SYSLOG_IDENTIFIER":"poold"' <<<"$entry"
}

# A guest has its image open, outside of anything of ours, while the service is upgraded.
a_guest_goes_on_while_the_service_restarts() {
    local guest volume
    # qemu-io reads its commands from a pipe that nobody writes to, and holds the image as qemu does.
    m systemd-run --quiet --unit=guest sh -c 'sleep infinity | exec qemu-io -f qcow2 /srv/images/guest.qcow2'
    volume=$(m busctl call org.poold1 "$(pool images)" org.poold1.Pool LookupVolume 'sa{sv}' guest.qcow2 0 |
        sed 's/^o "\(.*\)"$/\1/')
    wait_for 10 "the guest holds its image" volume_is_held "$volume"
    guest=$(m systemctl show --value -p ControlGroup guest.service)
    m systemctl restart poold.service
    m systemctl is-active guest.service
    is "$(m systemctl show --value -p ControlGroup guest.service)" "$guest"
    volume_is_held "$volume"
    m systemctl stop guest.service
    wait_for 10 "nobody holds it" not volume_is_held "$volume"
    m qemu-img check /srv/images/guest.qcow2
}

# Shrinking it is refused, naming the holder; nothing worse is tried on it.
volume_is_held() {
    local answer
    answer=$(m busctl call org.poold1 "$1" org.poold1.Volume Resize 'ta{sv}' 1048576 1 shrink b true 2>&1) || true
    echo "$answer"
    [[ $answer == *"qemu-io, process "*" uses it"* ]]
}

a_pool_stopped_by_hand_stays_stopped_until_the_next_boot() {
    m poolctl stop stopped
    m systemctl restart poold.service
    pool_is stopped inactive
    pool_is images active
    m systemctl start poold-autostart.service
    pool_is stopped inactive
    m systemctl stop poold-autostart.service
}

pools_marked_autostart_come_up_at_boot_by_themselves() {
    machine_reboot
    # Nobody has called yet: the unit alone started it, and its log is what we look at first.
    wait_for 30 "poold runs" unit_is poold.service ActiveState active
    wait_for 30 "autostart is done" pool_is images active
    wait_for 30 "the one that was stopped is back" pool_is stopped active
    pool_is manual inactive
    pool_is by-hand inactive
    m busctl call org.poold1 "$(pool images)" org.poold1.Pool LookupVolume 'sa{sv}' guest.qcow2 0
}

a_service_ordered_after_autostart_finds_its_pools() {
    m sh -c 'cat >/etc/systemd/system/consumer.service' <<'UNIT'
[Unit]
Wants=poold-autostart.service
After=poold-autostart.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'poolctl list >/run/consumer'
[Install]
WantedBy=multi-user.target
UNIT
    m systemctl enable consumer.service
    machine_reboot
    wait_for 60 "the consumer ran" unit_is consumer.service ActiveState active
    unit_is poold-autostart.service Result success
    m grep -q 'images.*active' /run/consumer
    m systemctl disable --now consumer.service
    m rm /etc/systemd/system/consumer.service
}

a_unit_can_require_one_pool() {
    pool_is manual inactive
    m systemctl start poold-pool@manual.service
    pool_is manual active
    m systemctl stop poold-pool@manual.service
    pool_is manual active
    # It is active already; that is no failure.
    m systemctl start poold-pool@manual.service
    not m systemctl start poold-pool@nowhere.service
}

# A system call that does not return holds up its own pool and nobody else; and as the job goes on
# writing as far as anybody knows, the host is not shut down under it.
a_file_system_that_hangs_holds_up_its_own_pool_only() {
    m busctl call org.poold1 /org/poold1 org.poold1.Manager DefinePool 'ssa{sv}a{sv}' \
        dir frozen 1 target s /srv/frozen/pool 2 build s yes start b true
    # Whatever happens below, it is thawed again.
    trap 'fsfreeze -u "$work/srv/frozen"' EXIT
    fsfreeze -f "$work/srv/frozen"
    m busctl call org.poold1 "$(pool frozen)" org.poold1.Pool CreateVolume 'sta{sv}' late.raw 1048576 1 wait t 0
    wait_for 10 "a shutdown waits" shutdown_waits
    m poolctl vol create images/meanwhile.raw 1M
    m poolctl stop stopped
    m poolctl start stopped
    shutdown_waits
    m systemctl reload poold.service
    not m test -e /srv/frozen/pool/late.raw
    fsfreeze -u "$work/srv/frozen"
    trap - EXIT
    wait_for 10 "the volume is there" m poolctl vol show frozen/late.raw
    wait_for 10 "a shutdown does not wait" not shutdown_waits
}

shutdown_waits() { m systemd-inhibit --list --no-legend | grep 'poold.*shutdown.*block'; }
