# shellcheck shell=bash disable=SC2154
# How the service comes up: by the bus, by the socket, at boot; and what it says of itself.

# Stopped as after an idle exit: the socket stays.
service_off() {
    m systemctl stop poold.service 2>/dev/null
    unit_is poold.service ActiveState inactive
}

version() { m runuser -u alice -- busctl get-property org.poold1 /org/poold1 org.poold1.Manager Version; }

the_service_is_up_after_boot_when_enabled() {
    m systemctl enable --now poold.socket poold.service
    machine_reboot
    wait_for 30 "poold runs" unit_is poold.service ActiveState active
    unit_is poold.socket ActiveState active
}

a_users_call_to_the_bus_name_starts_the_service() {
    service_off
    version
    unit_is poold.service ActiveState active
    not is "$(daemon_pid)" 0
}

a_connection_to_the_socket_starts_the_service() {
    service_off
    m runuser -u alice -- poolctl --address unix:path=/run/poold/bus list
    unit_is poold.service ActiveState active
    # The socket is there for the next one, also after a stop.
    service_off
    m runuser -u alice -- poolctl --address unix:path=/run/poold/bus list
}

the_service_is_active_only_after_it_has_its_name() {
    service_off
    m sh -c 'cat >/etc/dbus-1/system.d/deny.conf' <<'XML'
<busconfig><policy user="root"><deny own="org.poold1"/></policy></busconfig>
XML
    m systemctl reload dbus.service
    drop_in no-restart '[Service]' Restart=no
    not m systemctl start poold.service
    unit_is poold.service ActiveState failed
    drop_in_away no-restart
    m rm /etc/dbus-1/system.d/deny.conf
    m systemctl reload dbus.service
    m systemctl reset-failed poold.service
    m systemctl start poold.service
    is "$(m busctl status org.poold1 | sed -n 's/^PID=//p')" "$(daemon_pid)"
}

nobody_but_root_can_own_the_name() {
    service_off
    m runuser -u alice -- busctl call org.freedesktop.DBus /org/freedesktop/DBus \
        org.freedesktop.DBus RequestName su org.poold1 4 >"$work/answer" 2>&1 || true
    cat "$work/answer"
    grep -q 'Access denied\|not allowed to own' "$work/answer"
}

a_configuration_that_cannot_be_read_fails_once_and_says_where() {
    service_off
    m sh -c 'mkdir -p /etc/poold; echo "idle_timeout = 3" >/etc/poold/poold.toml'
    not m systemctl start poold.service
    unit_is poold.service ExecMainStatus 78
    unit_is poold.service ActiveState failed
    m journalctl --quiet --no-pager -u poold.service -n 20 | grep -q 'idle_timeout'
    m rm /etc/poold/poold.toml
    m systemctl reset-failed poold.service
    version
}

# What poold mounts must be mounted for everybody.
the_service_lives_in_the_mount_namespace_of_pid_1() {
    version
    is "$(m readlink "/proc/$(daemon_pid)/ns/mnt")" "$(m readlink /proc/1/ns/mnt)"
}

the_service_is_confined_as_its_unit_says() {
    local status
    version
    status=$(m cat "/proc/$(daemon_pid)/status")
    grep -q 'NoNewPrivs:.*1' <<<"$status"
    grep -q 'Seccomp:.*2' <<<"$status"
    grep -q 'Umask:.*0077' <<<"$status"
    # Without CAP_SYS_MODULE (16), CAP_SYS_BOOT (22) and CAP_SYS_TIME (25).
    is $((0x$(sed -n 's/^CapBnd:\s*//p' <<<"$status") & (1 << 16 | 1 << 22 | 1 << 25))) 0
}

# The policy and the example rule as they are installed, asked of the real polkit.
polkit_refuses_a_user_until_a_rule_grants() {
    local alice=(m runuser -u alice -- poolctl --no-ask)
    not "${alice[@]}" create hers --target /srv/storage/hers
    m sh -c 'groupadd storage; usermod -aG storage alice; mkdir -p /srv/storage
        cp /usr/share/poold/examples/50-poold-example.rules /etc/polkit-1/rules.d/'
    wait_for 10 "polkit has read the rule" "${alice[@]}" create hers --target /srv/storage/hers
    "${alice[@]}" vol create hers/disk.qcow2 1G --format qcow2
    not "${alice[@]}" create elsewhere --target /srv/elsewhere
    not m test -e /srv/elsewhere
    "${alice[@]}" stop hers
    "${alice[@]}" undefine hers
    m rm /etc/polkit-1/rules.d/50-poold-example.rules
}
