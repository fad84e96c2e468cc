# shellcheck shell=bash disable=SC2154
# Pools of the type netfs on a Samba server in this guest: guests, users with a password, and that nobody sees it.

PASSWORD='f1ve,tiny=birds%42'

a_samba_server_runs() {
    ip link set lo up
    mkdir -p /export/{open,closed}
    chown nobody /export/open
    chown alice /export/closed
    cat >/etc/samba/smb.conf <<CONF
[global]
interfaces = lo
bind interfaces only = yes
map to guest = Bad User
disable spoolss = yes
load printers = no
[open]
path = /export/open
guest only = yes
read only = no
[closed]
path = /export/closed
valid users = alice
read only = no
CONF
    printf '%s\n%s\n' "$PASSWORD" "$PASSWORD" | smbpasswd -s -a alice
    systemctl start smbd.service
    # The first mount loads modules for half a minute.
    configure '[timeouts]' 'start = "2min"'
    mount -t cifs -o guest //127.0.0.1/open /mnt
    umount /mnt
}

cifs_pool() { # NAME SHARE [CREDENTIALS]
    cat <<XML
<pool type='netfs'><name>$1</name>
<source><host name='127.0.0.1'/><dir path='$2'/><format type='cifs'/>${3-}</source>
<target><path>/srv/$1</path></target></pool>
XML
}
as_alice() { echo "<auth type='cifs' username='alice'><secret usage='nas'/></auth>"; }

# all_operations POOL DIRECTORY: each operation, and what the server has of it.
all_operations() {
    local pool=$1 dir=$2
    is "$(findmnt -n -o FSTYPE "/srv/$pool")" cifs
    poolctl vol create "$pool/raw" 8M
    is "$(stat -c %s "$dir/raw")" $((8 << 20))
    poolctl vol create "$pool/image.qcow2" 64M --format qcow2
    goes_in_and_out "$pool/raw" 8M "$dir/raw"
    poolctl vol clone "$pool/raw" copy
    poolctl vol clone "$pool/raw" copy.qcow2 --format qcow2
    qemu-img compare -f raw -F qcow2 "$dir/copy" "$dir/copy.qcow2"
    poolctl vol resize "$pool/raw" 16M
    is "$(stat -c %s "$dir/raw")" $((16 << 20))
    poolctl vol resize "$pool/image.qcow2" 128M
    qemu_opens "$dir/image.qcow2" qcow2 $((128 << 20))
    has_volumes "$pool" copy copy.qcow2 image.qcow2 raw
    poolctl vol delete "$pool/raw" "$pool/copy" "$pool/copy.qcow2" "$pool/image.qcow2"
    is "$(ls -A "$dir")" ""
    poolctl stop "$pool"
    not findmnt "/srv/$pool"
}

a_guest_does_all() {
    cifs_pool open open | define open --build --start
    all_operations open /export/open
    poolctl delete open
    poolctl undefine open
}

a_user_does_all_by_a_secret() {
    printf %s "$PASSWORD" | poolctl secret set --usage-type cifs --usage-name nas
    cifs_pool closed closed "$(as_alice)" | define closed --build
    # Whatever mount.cifs is told, another user's sight is on it.
    watch_for_password &
    local watcher=$!
    poolctl start closed
    [[ $(findmnt -n -o OPTIONS /srv/closed) == *username=alice* ]]
    all_operations closed /export/closed
    kill $watcher
    not test -e "$work/seen"
    is "$(ls -A /run/poold/private)" ""
}
watch_for_password() {
    while :; do
        grep -lsaF "$PASSWORD" /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>"$work/sight" && touch "$work/seen"
        [ "$(find /run/poold/private -type f ! -perm 600)" = "" ] || touch "$work/seen"
    done
}

wrong_credentials_are_told_within_seconds() {
    local before=$SECONDS
    printf %s "wrong-$PASSWORD" | poolctl secret set --usage-type cifs --usage-name nas
    refused AuthenticationFailed poolctl start closed 2>"$work/said"
    echo "after $((SECONDS - before)) s" >&3
    cifs_pool stranger closed | sed s/127.0.0.1/localhost/ | define stranger --build
    refused AuthenticationFailed poolctl start stranger
    poolctl undefine stranger
    cifs_pool nothing nothing | define nothing --build
    refused Inaccessible poolctl start nothing
    poolctl undefine nothing
    is "$(ls -A /run/poold/private)" ""
}

a_password_is_no_option() {
    cifs_pool o open |
        sed "s|<pool |<pool xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0' |; s|</pool>|<fs:mount_opts><fs:option name='password=$PASSWORD'/></fs:mount_opts></pool>|" >"$work/o.xml"
    refused InvalidArgument poolctl define "$work/o.xml" 2>"$work/why"
    not grep -F "$PASSWORD" "$work/why"
}

# The secret's own file is sealed, or in hexadecimal; nothing else has it in any form.
the_password_is_nowhere() {
    not grep -F "$PASSWORD" "$work/said"
    {
        poolctl dump closed
        poolctl show closed
        poolctl secret list
        journalctl --no-pager --quiet --boot -o export
    } >"$work/shown"
    not grep -aF "$PASSWORD" "$work/shown"
    not grep -raF "$PASSWORD" /run/poold /var/lib/poold /etc/poold /var/log
    poolctl undefine closed
}

step a_samba_server_runs
long step a_guest_does_all
step a_user_does_all_by_a_secret
step wrong_credentials_are_told_within_seconds
step a_password_is_no_option
step the_password_is_nowhere
