# shellcheck shell=bash disable=SC2154
# What the steps about dead servers share: each cell of the table in docs/dead-servers.md, what is wrong with a server by
# when that begins, is a step TYPE.FAULT.MOMENT, and what is seen is compared with the table word by word. The types are in
# servers.sh; `matrix TYPE...` is all cells of these, or with --quick one of each for each fault. Those that begin in the
# same way are tried at a time, behind a server for each fault; all the while a thousand calls are made on another pool
# (calls.py).
# shellcheck source=/dev/null
. "$here/servers.sh"

# shellcheck disable=SC2034 # of steps.sh
AREA=matrix
FAULTS=(stopped frozen garbage)
NOISE=9999

matrix() {
    types=("$@")
    step "$*.servers" servers_run
    cells_at start active job
    cells_at daemon
}

# Cells at these moments, as many as are wanted.
cells_at() {
    local type fault moment at cells=() cell
    for type in "${types[@]}"; do
        declare -n quick=${type}_quick
        at=0
        for fault in "${FAULTS[@]}"; do
            for moment; do
                [ -e "$here/quick" ] && [ "$moment" != "${quick[at]}" ] || cells+=("$type-$fault-$moment")
            done
            at=$((at + 1))
        done
    done
    [ ${#cells[@]} -gt 0 ] || return 0
    step "${types[*]}.$(tr ' ' - <<<"$*")" behind_dead_servers "${cells[@]}"
    for cell in "${cells[@]}"; do
        IFS=- read -r type fault moment <<<"$cell"
        step "$type.$fault.$moment" as_in_the_table "$type" "$fault" "$moment"
    done
}

begin_matrix() {
    # A job is looked at when all others have been, and who waits for the next try need not do so for long.
    configure '[timeouts]' 'job-retention = "20min"' 'retry-first = "8s"' 'retry-longest = "12s"'
    define others --build --start <<XML
<pool type='dir'><name>others</name><target><path>/srv/others</path></target></pool>
XML
    poolctl vol create others/one 1M
}
servers_run() {
    local type fault
    begin_matrix
    for type in "${types[@]}"; do
        "${type}_servers"
        for fault in "${FAULTS[@]}"; do faults_can_be_made "$type" "$fault"; done
    done
}

# What happens at each boot before poold starts: hosts whose servers do not run yet, or are not heard.
servers_are_dead_at_boot() {
    local cell type fault
    mkdir -p "$work"
    ip link set lo up
    for cell; do
        IFS=- read -r type fault _ <<<"$cell"
        case $type in
            nfs) nfs_place "$fault" ;;
            iscsi) iscsi_serve "$cell" ;;
        esac
        faults_can_be_made "$type" "$fault"
        break_server "$type" "$fault"
    done
}

behind_dead_servers() {
    local cell type fault moment
    for cell; do
        IFS=- read -r type fault moment <<<"$cell"
        "${type}_pool" "$cell" "$("${type}_address" "$fault")"
        [ "$moment" = start ] || poolctl start "$cell"
        [ "$moment" != job ] || begin_upload "$cell" "$("${type}_volume" "$cell")"
    done
    "$here/calls.py" 300 "$@" >"$work/without"
    each_server break_server
    for cell; do "begin_${cell##*-}" "$cell"; done
    "$here/calls.py" 1000 "$@" >"$work/beside"
    ratio >&3
    for cell; do try "$cell" "see_${cell##*-}" "$cell"; done
    each_server mend_server
    for cell; do try "$cell" comes_back "$cell"; done
    for cell; do try "$cell" over "$cell"; done
}
each_server() {
    local type fault
    for type in "${types[@]}"; do
        for fault in "${FAULTS[@]}"; do "$1" "$type" "$fault"; done
    done
}

# How many times longer calls took beside dead servers.
ratio() {
    awk 'NR == FNR { median = $1; most = $2; next }
        { printf "1000 calls beside it took %.1f ms (x %.2f), 99%% at most %.1f ms (x %.2f)\n", $1, $1 / median, $2, $2 / most }
    ' "$work/without" "$work/beside"
}

# try CELL COMMAND...: what goes wrong is told by the cell's own step, and the others go on.
try() {
    local cell=$1 status
    shift
    [ ! -e "$work/$cell.failed" ] || return 0
    set +e
    (
        set -e
        "$@"
    ) >>"$work/$cell.log" 2>&1
    status=$?
    set -e
    [ "$status" = 0 ] || touch "$work/$cell.failed"
}

as_in_the_table() {
    local cell=$1-$2-$3
    cat "$work/$cell.log"
    awk -F ' *[|] *' -v section="## $1:" -v fault="$2" -v moment="$3" '
        /^## / { inside = index($0, section) == 1 }
        inside && $2 == fault && $3 == moment { gsub(/`/, ""); printf "%s | %s | %s | %s\n", $4, $5, $6, $7 }
    ' "$here/dead-servers.md" >"$work/expected"
    paste -d '|' "$work/$cell.row" "$work/$cell.upload" | awk -F '|' '{ print $1 "|" $2 "| " $4 " |" $3 }' >"$work/observed"
    if grep -q '^not tried' "$work/expected"; then
        not test -e "$work/$cell.failed"
        skip "not tried yet: write down $(cat "$work/observed")"
    fi
    awk -F ' [|] ' '{ print $1 ", " $2 }' "$work/$cell.row" >&3
    # An upload may end in one way or another, where how long the server is away decides.
    awk -F ' [|] ' -v OFS=' | ' -v end="$(cat "$work/$cell.upload")" '
        { count = split($3, ends, " or "); for (i = 1; i <= count; i++) if (ends[i] == end) $3 = end; print }
    ' "$work/expected" >"$work/expected.now"
    diff -u --label docs/dead-servers.md "$work/expected.now" --label observed "$work/observed"
    not test -e "$work/$cell.failed"
}

# --- what is wrong with a server

# faults_can_be_made TYPE FAULT: on that server's host.
faults_can_be_made() {
    local command
    read -ra command < <("$1_host" "$2") || true
    if "${command[@]}" nft list table ip dead >"$work/shown" 2>&1; then return; fi
    "${command[@]}" nft -f - <<NFT
table ip dead {
    set stopped { type ipv4_addr; }
    set frozen { type ipv4_addr; }
    set garbage { type ipv4_addr; }
    chain arrival {
        type nat hook prerouting priority -100;
        ip daddr @garbage ip protocol tcp redirect to :$NOISE
    }
    # From this host to itself.
    chain departure {
        type nat hook output priority -100;
        ip daddr @garbage ip protocol tcp redirect to :$NOISE
    }
    chain input {
        type filter hook input priority 0;
        ip daddr @frozen drop
        ip daddr @stopped ip protocol tcp reject with tcp reset
        # Connections from before.
        ip daddr @garbage tcp dport != $NOISE reject with tcp reset
    }
}
NFT
}

# noise COMMAND...: lets something answer with noise on a host; its unit is `noise_unit COMMAND...`.
noise() {
    local unit
    unit=$(noise_unit "$@")
    if systemctl --quiet is-active "$unit"; then return; fi
    systemd-run --quiet --collect --unit="$unit" "$@" "$here/noise.py" $NOISE
    wait_for 60 "something answers with noise" noise_is_heard "$@"
}
no_noise() { if systemctl --quiet is-active "$1"; then systemctl stop "$1"; fi; }
noise_unit() { echo "noise$(printf -- '-%s' "${@##*/}").service"; }
noise_is_heard() { is "$("$@" ss -Hltn "sport = :$NOISE" | wc -l)" 1; }

break_server() {
    local address command
    address=$("$1_address" "$2")
    read -ra command < <("$1_host" "$2") || true
    [ "$2" != garbage ] || noise "${command[@]}"
    "${command[@]}" nft add element ip dead "$2" "{ $address }"
}
mend_server() {
    local address command
    address=$("$1_address" "$2")
    read -ra command < <("$1_host" "$2") || true
    "${command[@]}" nft delete element ip dead "$2" "{ $address }"
    # With its connections, which would go on; another type's servers may be on the host.
    [ "$2" != garbage ] || no_noise "$(noise_unit "${command[@]}")"
}

# --- when it begins: `begin_MOMENT POOL` does what is done then, `see_MOMENT POOL` writes what came of it

begin_start() {
    poolctl autostart "$1"
    poolctl --no-wait autostart
}
see_start() {
    job_failed "$1" pool-start
    wait_for 60 "it is inactive" is_now "$1" inactive
    wait_for 60 "it says what it waits for" waits_for_a_server "$1"
    row "$1" inactive "$(cat "$work/job.error")"
}
waits_for_a_server() {
    [[ $(get "$1" WaitingFor | jq -r .data) == "server "* ]] && [ "$(get "$1" NextTry | jq .data)" -gt 0 ]
}

# Or the pool was found out before, and the refresh is refused.
begin_active() {
    # A refresh before the kernel has noticed hangs until it has.
    [ "${1%%-*}" != iscsi ] || wait_for 60 "the session is down" iscsi_is_down "$1"
    if ! poolctl --no-wait refresh "$1"; then
        is_now "$1" inaccessible
        touch "$work/$1.refused"
    fi
}
see_active() {
    [ -e "$work/$1.refused" ] || job_failed "$1" pool-refresh
    wait_for 30 "it is inaccessible" is_now "$1" inaccessible
    row "$1" inaccessible "$(last_error "$1" 0) $(last_error "$1" 1)"
    [ "$(get "$1" VolumesStale | jq .data)" = true ]
}

begin_job() { touch "$work/$1.go"; }
see_job() {
    wait_for 60 "it is inaccessible" is_now "$1" inaccessible
    row "$1" inaccessible "$(last_error "$1" 0) $(last_error "$1" 1)"
}

# All pools have the same daemon.
begin_daemon() {
    [ ! -e "$work/killed" ] || return 0
    kill -KILL "$(daemon_pid)"
    bus '' org.poold1.Manager ListPools 'a{sv}' 0
    touch "$work/killed"
}
see_daemon() {
    wait_for 60 "it is inaccessible" is_now "$1" inaccessible
    row "$1" inaccessible "$(last_error "$1" 0) $(last_error "$1" 1)"
}

comes_back() {
    wait_for 240 "it is active again" is_well "$1"
    if [ -e "$work/$1.go" ]; then
        wait_for 180 "the upload ends" test -s "$work/$1.upload"
        upload_is_there "$1"
    else
        echo - >"$work/$1.upload"
    fi
    poolctl refresh "$1"
}
is_well() { is "$(state "$1") $(last_error "$1" 0) $(get "$1" WaitingFor | jq -r .data)" "active - "; }

over() {
    poolctl stop "$1"
    poolctl undefine "$1"
}

# job_failed POOL OPERATION: waits until one did; its error is in job.error.
job_failed() { wait_for 120 "the $2 is given up" has_failed "$@"; }
has_failed() {
    bus /jobs org.freedesktop.DBus.ObjectManager GetManagedObjects | jq -re --arg pool "$(pool "$1")" --arg operation "$2" '
        [.data[0][]."org.poold1.Job" | select(.State.data == "failed" and .Operation.data == $operation
            and (.Objects.data | index($pool)))] | last | .Error.data | join(" ")' >"$work/job.error"
}

# row POOL STATE "ERROR MESSAGE": notes it.
row() {
    local error=${3%% *}
    echo "${error#org.poold1.Error.} | $2 | $(plain <<<"${3#* }" | sed -E "s/^[a-z -]+( of pool [^ ]+ did not end in)/...\1/; s/$1/${1%%-*}/g; s/session [0-9]+/session N/; s/\<(127\.0\.[12]|10\.0\.[1-3])\.[0-9](:[0-9]+)?/SERVER/g")" |
        tee "$work/$1.row"
}

# --- an upload whose client waits in the middle

begin_upload() {
    local pool=$1 volume=$2
    head -c 8M /dev/urandom >"$work/$pool.data"
    echo "$volume" >"$work/$pool.volume"
    (
        head -c 2M "$work/$pool.data"
        until [ -e "$work/$pool.go" ]; do sleep 0.1; done
        tail -c +$((2 * 1024 * 1024 + 1)) "$work/$pool.data"
    ) 2>/dev/null | {
        local status=0
        poolctl vol upload "$pool/$volume" - 2>"$work/$pool.said" || status=$?
        if [ "$status" = 0 ]; then
            echo "done" >"$work/$pool.upload"
        else
            error_that_says "$(sed -n 's/^poolctl: //p' "$work/$pool.said" | tail -n 1)" "$status" |
                sed -E 's/^(org.poold1.Error.)?/failed /' >"$work/$pool.upload"
        fi
    } 3>&- &
    wait_for 60 "the upload is under way" has_sent 2097152
}
has_sent() {
    bus /jobs org.freedesktop.DBus.ObjectManager GetManagedObjects |
        jq -e --argjson bytes "$1" '.data[0][]."org.poold1.Job" | select(.State.data == "running" and .Bytes.data >= $bytes)'
}
upload_is_there() {
    [ "$(cat "$work/$1.upload")" = "done" ] || return 0
    poolctl vol download "$1/$(cat "$work/$1.volume")" "$work/back" --length 8M
    cmp "$work/back" "$work/$1.data"
}
