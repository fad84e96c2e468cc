# shellcheck shell=bash disable=SC2154
# How the service goes on and ends: reload, watchdog, SIGTERM, idle exit.

a_reload_takes_a_definition_put_there_by_hand() {
    local pid
    m systemctl start poold.service
    pid=$(daemon_pid)
    m sh -c 'mkdir -p /srv/by-hand; cat >/etc/poold/pools/by-hand.xml' <<'XML'
<pool type='dir'>
  <name>by-hand</name>
  <target><path>/srv/by-hand</path></target>
</pool>
XML
    not pool by-hand
    m systemctl reload poold.service
    wait_for 10 "the pool is there" pool by-hand
    unit_is poold.service ActiveState active
    is "$(daemon_pid)" "$pid"
}

a_daemon_that_stands_still_is_killed_and_comes_back() {
    local pid restarts
    drop_in watchdog '[Service]' WatchdogSec=2s
    m systemctl restart poold.service
    pid=$(daemon_pid)
    restarts=$(unit poold.service NRestarts)
    # Alive it is left alone: two watchdog periods pass while it answers.
    for _ in 1 2 3 4; do
        sleep 1
        m busctl get-property org.poold1 /org/poold1 org.poold1.Manager Version
    done
    is "$(daemon_pid)" "$pid"
    m kill -STOP "$pid"
    wait_for 30 "another daemon runs" unit_is poold.service NRestarts $((restarts + 1))
    wait_for 30 "it is ready" unit_is poold.service ActiveState active
    not is "$(daemon_pid)" "$pid"
    pool by-hand
    m journalctl --quiet --no-pager -u poold.service | grep -q 'Watchdog timeout'
    drop_in_away watchdog
    m systemctl restart poold.service
}

a_daemon_that_was_killed_comes_back_with_its_pools() {
    local pid
    m systemctl start poold.service
    pid=$(daemon_pid)
    m poolctl start by-hand
    pool_is by-hand active
    m kill -KILL "$pid"
    wait_for 30 "another daemon runs" other_daemon "$pid"
    pool_is by-hand active
}

other_daemon() {
    local now
    now=$(daemon_pid)
    [ "$now" != 0 ] && [ "$now" != "$1" ] && unit_is poold.service ActiveState active
}

a_stop_ends_cleanly_and_keeps_the_socket() {
    m systemctl start poold.service
    m systemctl stop poold.service
    unit_is poold.service Result success
    unit_is poold.service ExecMainStatus 0
    unit_is poold.socket ActiveState active
    m test -S /run/poold/bus
}

leave_soon() { configure 'idle-timeout = "20ms"' '[timeouts]' 'job-retention = "10ms"'; }

# Calls come while the daemon is about to leave, again and again, from several clients; each must be
# answered, by the old daemon or by a new one, and find what was there before.
no_call_is_lost_in_a_hundred_idle_exits() {
    leave_soon
    call_over_idle_exits 100 busctl call --timeout=20 \
        org.poold1 /org/poold1 org.poold1.Manager LookupPool 'sa{sv}' by-hand 0
    pool_is by-hand active
}

no_connection_to_the_socket_is_lost_in_idle_exits() {
    leave_soon
    call_over_idle_exits 50 poolctl --address unix:path=/run/poold/bus list --json
}

# call_over_idle_exits EXITS COMMAND...: three clients call until the daemon has left so often.
call_over_idle_exits() {
    m bash -s "$@" >"$work/calls" <<'SH' || { cat "$work/calls"; return 1; }
        exits=$1
        shift
        left() { journalctl --quiet -u poold.service -o cat | grep -c 'ending: nobody needs it'; }
        # With pauses from none to 100 ms some calls meet the daemon, some its end and some nobody.
        client() {
            local calls=0 answer
            until [ -e /run/enough ]; do
                sleep "0.0$((RANDOM % 100))"
                answer=$("$@" 2>&1) || { echo "lost: $answer"; touch /run/enough; exit 1; }
                case $answer in *org/poold1/pools/* | *by-hand*) ;; *) echo "wrong: $answer"; exit 1 ;; esac
                calls=$((calls + 1))
            done
            echo "$calls" >>/run/calls
        }
        rm -f /run/enough /run/calls
        before=$(left) began=$SECONDS clients=()
        for _ in 1 2 3; do
            client "$@" &
            clients+=($!)
        done
        until [ -e /run/enough ]; do
            sleep 1
            cycles=$(($(left) - before))
            [ "$cycles" -lt "$exits" ] && [ $((SECONDS - began)) -lt 300 ] || touch /run/enough
        done
        for pid in "${clients[@]}"; do wait "$pid" || exit 1; done
        [ "$cycles" -ge "$exits" ] || { echo "only $cycles idle exits in 300 s"; exit 1; }
        awk -v cycles="$cycles" '{ calls += $1 } END { print calls " calls answered over " cycles " idle exits" }' /run/calls
SH
    tail -n 1 "$work/calls" >&3
    unit_is poold.service NRestarts 0
}

# A client that stays on the bus and may come again keeps the daemon.
a_caller_that_stays_keeps_the_daemon() {
    local pid
    leave_soon
    m systemd-run --quiet --unit=watcher poolctl monitor
    wait_for 10 "it is on the bus" m sh -c 'busctl list --no-legend | grep -q poolctl'
    sleep 1
    pid=$(daemon_pid)
    sleep 2
    is "$(daemon_pid)" "$pid"
    m systemctl stop watcher.service
    wait_for 20 "the daemon leaves" unit_is poold.service ActiveState inactive
    configure
}
