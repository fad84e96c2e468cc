# shellcheck shell=bash disable=SC2154
# make install and make uninstall.

every_file() { find "$MACHINE" -xdev ! -type d | sort; }
own_directories() { find "$MACHINE" -xdev -type d -name '*pool[dc]*' -o -type d -name 'org.poold1*' | sort; }

uninstall_removes_every_file_that_install_put_there() {
    every_file >"$work/before"
    make_install
    every_file >"$work/with"
    not diff -q "$work/before" "$work/with"
    make_uninstall
    every_file | diff "$work/before" -
    is "$(own_directories)" ""
}

# What the machine made of its own while it ran: what the user enabled and configured, state, logs.
uninstall_after_use_leaves_only_what_is_the_users() {
    make_uninstall
    find "$MACHINE" -xdev -name '*poold*' -o -name '*poolctl*' | sed "s,^$MACHINE,," |
        grep -v -e '^/etc/poold' -e '^/var/lib/poold' -e '^/etc/systemd/system/.*\.wants/poold\.' |
        grep . && return 1
    true
}

# Every unit is what systemd takes it for, down to the manual pages it names.
systemd_finds_nothing_wrong_with_the_units() {
    local units
    units=$(m sh -c 'ls /usr/lib/systemd/system/poold* | sed s/@/@x/')
    # shellcheck disable=SC2086
    is "$(m systemd-analyze verify --man=no $units 2>&1)" ""
}

the_machine_boots_with_what_was_installed() {
    make_install
    machine_boot
}

the_machine_powers_off() { machine_off; }
