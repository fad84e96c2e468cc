#!/bin/bash
# The host tier: poold, installed by `make install` into a Debian with real systemd as PID 1.
#
#   tests/host/run.sh [WORD...]    all steps, or those whose name contains one of the words
#
# Needs root, a cgroup2 file system and the package mmdebstrap; root.sh fetches the rest once.
# POOLD_BUILD is where the programs were built (default target/debug, else target/release).
# POOLD_UNIT_TESTS is the program that `cargo test --lib --no-run` names, for a step that runs one of
# them as the service.
# Prints a RESULT line a step and a count; leaves nothing behind but the cache, however it ends.
set -uo pipefail

here=$(dirname "$(readlink -f "$0")")
tree=$(readlink -f "$here/../..")

skip_all() {
    echo "RESULT host all skip $*"
    echo "host: 0 passed, 0 failed, 1 skipped"
    exit 0
}

# All mounts are made in a namespace that ends with this script.
if [ -z "${POOLD_HOST_TIER:-}" ]; then
    [ "$(id -u)" = 0 ] || skip_all "needs root"
    command -v mmdebstrap >/dev/null || skip_all "mmdebstrap is not installed: apt-get install mmdebstrap"
    unshare -m true || skip_all "no mount namespace can be made here"
    POOLD_HOST_TIER=1 exec unshare -m --propagation private "$0" "$@"
fi

for file in "$here"/{machine,support}.sh "$here"/steps/*.sh; do
    # shellcheck source=/dev/null
    . "$file"
done

# In this order: later ones use what earlier ones made.
STEPS=(
    systemd_finds_nothing_wrong_with_the_units
    the_service_is_up_after_boot_when_enabled
    a_users_call_to_the_bus_name_starts_the_service
    a_connection_to_the_socket_starts_the_service
    the_service_is_active_only_after_it_has_its_name
    nobody_but_root_can_own_the_name
    a_configuration_that_cannot_be_read_fails_once_and_says_where
    the_service_lives_in_the_mount_namespace_of_pid_1
    the_service_is_confined_as_its_unit_says
    polkit_refuses_a_user_until_a_rule_grants
    a_reload_takes_a_definition_put_there_by_hand
    a_daemon_that_stands_still_is_killed_and_comes_back
    a_daemon_that_was_killed_comes_back_with_its_pools
    a_stop_ends_cleanly_and_keeps_the_socket
    only_helpers_in_a_scope_of_their_own_outlive_the_service
    no_call_is_lost_in_a_hundred_idle_exits
    no_connection_to_the_socket_is_lost_in_idle_exits
    a_caller_that_stays_keeps_the_daemon
    images_can_be_made_in_a_pool_that_starts_at_boot
    a_secret_is_sealed_with_the_hosts_key
    the_journal_has_fields_for_pool_volume_job_and_caller
    a_file_system_that_hangs_holds_up_its_own_pool_only
    a_guest_goes_on_while_the_service_restarts
    a_pool_stopped_by_hand_stays_stopped_until_the_next_boot
    pools_marked_autostart_come_up_at_boot_by_themselves
    a_service_ordered_after_autostart_finds_its_pools
    a_unit_can_require_one_pool
)

# shellcheck disable=SC2034 # for support.sh
WORDS=("$@")
[ -n "$(cgroup2_mount)" ] || skip_all "no cgroup2 file system is mounted"
build=${POOLD_BUILD:-$tree/target/debug}
[ -x "$build/poold" ] || build=$tree/target/release
[ -x "$build/poold" ] || { echo "RESULT host build fail no poold in $build: run 'make build'"; exit 1; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/poold-host.$$.XXXXXX")
clean() {
    trap '' INT TERM HUP
    machine_clean
    wait
    # Its mounts end with the namespace; outside of it the directory is empty.
    umount -R -l "$work"
    rmdir "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# In memory: an overlay's upper directory can be here wherever this runs.
mount -t tmpfs -o mode=755,size=2g tmpfs "$work"

cached=$("$here/root.sh" 2>"$work/root.log") || {
    tail -n 20 "$work/root.log"
    echo "RESULT host root fail cannot build the Debian root"
    exit 1
}
machine_prepare "$cached" "$work"

step uninstall_removes_every_file_that_install_put_there
step -a the_machine_boots_with_what_was_installed
machine_is_up || { cat "$work/console"; summary; exit 1; }
for name in "${STEPS[@]}"; do step "$name"; done
step -a the_machine_powers_off
step -a uninstall_after_use_leaves_only_what_is_the_users
summary
