# shellcheck shell=bash disable=SC2154
# Secrets that are sealed with the host's key.

# in_memory_of PID TEXT: whether the text is in memory that the process can change.
# shellcheck disable=SC2016
in_memory_of() {
    m sh -c 'grep "^[^ ]* rw" "/proc/$0/maps" | while read -r range _; do
            from=$((0x${range%-*})) to=$((0x${range#*-}))
            dd "if=/proc/$0/mem" iflag=skip_bytes,count_bytes bs=1M skip=$from count=$((to - from)) 2>/dev/null
        done | grep -aqF -e "$1"' "$1" "$2"
}

a_secret_is_sealed_with_the_hosts_key() {
    local value=correct-horse-battery uuid file
    m sh -c "printf %s $value | poolctl secret set --usage-name disk-key"
    uuid=$(m poolctl secret list | grep -oE '[0-9a-f-]{36}')
    file=$(m find /var/lib/poold -name "$uuid.json")
    m grep -qE '"sealed": ?true' "$file"
    not m grep -q "$(printf %s $value | od -An -tx1 | tr -d ' \n')" "$file"
    is "$(m stat -c %a:%U "$file")" 600:root
    # Another daemon unseals it.
    m systemctl restart poold.service
    m poolctl vol create images/locked.qcow2 64M --format qcow2 --encryption luks --secret disk-key
    m qemu-img info /srv/images/locked.qcow2 | grep -q '^encrypted: yes'
    in_memory_of "$(daemon_pid)" /var/lib/poold
    not in_memory_of "$(daemon_pid)" "$value"
    # Without the host's key it is nothing.
    m mv /var/lib/systemd/credential.secret /var/lib/systemd/kept
    m sh -c 'poolctl vol create images/other.qcow2 64M --format qcow2 --encryption luks --secret disk-key 2>&1' \
        >"$work/answer" && return 1
    grep -q "cannot be unsealed on this host" "$work/answer"
    not grep -q "$value" "$work/answer"
    m mv /var/lib/systemd/kept /var/lib/systemd/credential.secret
    m poolctl vol delete images/locked.qcow2
    m poolctl secret delete disk-key
}
