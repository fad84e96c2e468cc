# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 1800
# The service is replaced while its pools are in use.

a_pool_with_a_held_volume_outlives_an_upgrade() {
    local pool=up-$1 path pid
    "$1_make" "$pool" 1
    path=$("$1_path" "$pool")
    hold "$path" raw
    pid=$(daemon_pid)
    new_version
    systemctl restart poold.service
    not is "$(daemon_pid)" "$pid"
    # It is the new one that answers, for the same pool, and knows who holds the volume.
    is "$(stat -Lc %i "/proc/$(daemon_pid)/exe")" "$(stat -c %i /usr/sbin/poold)"
    pool_is "$pool" active
    held "$path"
    refused Busy poolctl vol wipe "$pool/$("$1_name" "$pool")"
    let_go "$path"
    is_usable "$1" "$pool"
}

# As a package does it: another file by the same name.
new_version() {
    cp /usr/sbin/poold /usr/sbin/poold.new
    mv /usr/sbin/poold.new /usr/sbin/poold
    systemctl daemon-reload
}

each a_pool_with_a_held_volume_outlives_an_upgrade
