#!/bin/bash
# ganesha.sh: rpcbind and nfs-ganesha, an NFS server in user space, at their own ports of this network namespace, which has
# to be the tests' own. What they keep is in memory that only this script's mount namespace has; the exports are below
# /run/export.
#
# Prints the process ids of both when the server answers, and lasts until both have ended.
set -euo pipefail

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/rpcbind /run/ganesha /run/export/{vms,others} '/run/export/with blank'
# It announces itself on the system bus, which must not be the host's.
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/none

export_of() { # NUMBER DIRECTORY [MORE]
    cat <<END
EXPORT {
    Export_Id = $1; Path = "/run/export/$2"; Pseudo = "/export$1"; Access_Type = RW; Squash = Root_Squash;
    SecType = sys; FSAL { Name = VFS; } ${3-}
}
END
}
{
    cat <<'END'
NFS_CORE_PARAM {
    Protocols = 3, 4; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}
NFSv4 { Graceless = true; RecoveryRoot = /run/ganesha; }
END
    export_of 1 vms
    export_of 2 others 'CLIENT { Clients = 192.0.2.0/24; Access_Type = RO; }'
    export_of 3 'with blank'
} >/run/ganesha.conf

rpcbind -f >/run/rpcbind.log 2>&1 &
rpcbind=$!
for _ in $(seq 100); do
    [ ! -S /run/rpcbind.sock ] || break
    sleep 0.05
done
ganesha.nfsd -F -f /run/ganesha.conf -L /run/ganesha.log -p /run/ganesha.pid -N EVENT >/run/ganesha.out 2>&1 &
ganesha=$!
for _ in $(seq 200); do
    if showmount --no-headers --exports 127.0.0.1 >/dev/null 2>&1; then
        echo "$rpcbind $ganesha"
        # Whoever reads it waits for its end, and nobody wants to know how they were killed.
        exec >&- 2>&-
        wait
        exit
    fi
    kill -0 $ganesha || break
    sleep 0.05
done
tail -n 20 /run/ganesha.log >&2
echo "ganesha.sh: it does not answer" >&2
exit 1
