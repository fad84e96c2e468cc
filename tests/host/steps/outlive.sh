# shellcheck shell=bash disable=SC2154
# What must outlive the daemon, which takes everything in its control group with it.

# No pool needs it yet, so a unit test that starts both kinds stands in for the daemon, in poold.service.
only_helpers_in_a_scope_of_their_own_outlive_the_service() {
    local dir=/srv/outlive helper ordinary scope
    [ -x "${POOLD_UNIT_TESTS:-}" ] || skip "POOLD_UNIT_TESTS is not set to the built unit tests"
    mkdir "$MACHINE_DIR/srv/outlive"
    cp "$POOLD_UNIT_TESTS" "$MACHINE_DIR/srv/outlive/tests"
    drop_in outlive '[Service]' Type=exec Restart=no WatchdogSec=0 ExecStart= \
        "ExecStart=$dir/tests --ignored --exact --nocapture host::lifetime::tests::service_that_is_to_be_killed" \
        "Environment=POOLD_TEST_OUTLIVES=$dir"
    m systemctl restart poold.service
    wait_for 30 "both kinds run" m test -s $dir/ordinary
    helper=$(m cat $dir/helper) ordinary=$(m cat $dir/ordinary)
    m test -d "/proc/$ordinary"
    scope=$(m sh -c "sed -n 's,^0::.*/,,p' /proc/$helper/cgroup")

    m systemctl kill --kill-who=main --signal=KILL poold.service
    wait_for 20 "the service has ended" unit_is poold.service ActiveState failed
    wait_for 20 "the ordinary one has ended" not m test -d "/proc/$ordinary"
    m test -d "/proc/$helper"
    drop_in_away outlive
    m systemctl restart poold.service
    unit_is poold.service ActiveState active
    m systemctl stop poold.service
    m test -d "/proc/$helper"
    unit_is "$scope" ActiveState active

    m kill "$helper"
    wait_for 20 "the scope is gone" unit_is "$scope" LoadState not-found
    rm -r "$MACHINE_DIR/srv/outlive"
}
