# shellcheck shell=bash disable=SC2154
# What the steps about failures share: each cell of the table in docs/failures.md, cause by type of pool, is a step, and what
# happens is compared with the table word by word. A step file says
#
#   cause NAME    all cells of the table's section `NAME`: functions NAME_TYPE, which use `sees`, `by_itself` and `kept`
#
# All the while somebody lists pools and refreshes one on another disk (`others_answer`).

FAILURE_TYPES=(fs disk logical scsi mpath zfs)

# rows CAUSE TYPE: the table's rows of a cell, as `sees` writes them; nothing when it does not apply.
rows() {
    awk -F ' *[|] *' -v section="## $1:" -v type="$2" '
        /^## /  { inside = index($0, section) == 1 }
        inside && $2 == type && $3 != "" { gsub(/`/, ""); printf "%s | %s | %s | %s\n", $3, $4, $5, $6 }
    ' "$here/failures.md"
}

cause() {
    local type
    others_begin
    for type in "${FAILURE_TYPES[@]}"; do
        if declare -F "$1_$type" >/dev/null; then
            step "$1.$type" as_in_the_table "$1" "$type"
        else
            step "$1.$type" does_not_apply "$1" "$type"
        fi
    done
    step "$1.others_answer" others_answer
    others_end
}

as_in_the_table() {
    if [ "$2" = zfs ]; then modprobe -q zfs || skip "no ZFS modules: make test-vm-zfs builds them"; fi
    rows "$1" "$2" >"$work/expected"
    if grep -q '^not tried' "$work/expected"; then skip "not tried yet: run $1_$2, and write down what it shows"; fi
    : >"$work/rows"
    "$1_$2"
    awk -F ' [|] ' '{ printf "%s%s %s", n++ ? "; " : "", $2 == "-" ? "no error" : $2, $3 }' "$work/rows" >&3
    diff -u --label docs/failures.md "$work/expected" --label observed "$work/rows"
}

# The table has to say why.
does_not_apply() {
    local why
    why=$(rows "$1" "$2" | sed -n 's/^does not apply | *| *| //p')
    [ "$why" ] || { echo "no $1_$2, and docs/failures.md does not say why"; return 1; }
    echo "does not apply: $why" >&3
}

# --- what is seen

row() { echo "$1 | $2 | $3 | $4" | tee -a "$work/rows"; }

# sees POOL COMMAND...: notes what the command came to. An error's name is that of the job that failed with these words.
sees() {
    local pool=$1 said name status=0
    shift
    "$@" 2>"$work/said" || status=$?
    if [ "$status" = 0 ]; then
        row "$(plain <<<"$*")" - "$(state "$pool")" -
        return
    fi
    said=$(grep '^poolctl: ' "$work/said" | tail -n 1)
    name=$(error_that_says "${said#poolctl: }" "$status")
    row "$(plain <<<"$*")" "${name#org.poold1.Error.}" "$(state "$pool")" "$(plain <<<"${said#poolctl: }")"
}

# by_itself POOL STATE: waits for the state, that nobody asked for.
by_itself() {
    wait_for 300 "pool $1 is $2" is_now "$1" "$2"
    row "by itself" "$(last_error "$1" 0)" "$2" "$(last_error "$1" 1 | plain)"
}

# --- the others

others_begin() {
    local object
    if ! pool others >"$work/shown" 2>&1; then
        define others --build --start >/dev/null <<XML
<pool type='dir'><name>others</name><target><path>/srv/others</path></target></pool>
XML
    fi
    object=$(pool others) object=${object#/org/poold1}
    : >"$work/answers"
    (
        while :; do
            if bus '' org.poold1.Manager ListPools 'a{sv}' 0 && bus "$object" org.poold1.Pool Refresh 'a{sv}' 0; then
                echo yes
            else
                echo no
            fi
            sleep 1
        done >"$work/answers" 2>"$work/answers.errors" </dev/null
    ) &
    others=$!
}
others_answer() {
    local before
    before=$(answers yes)
    wait_for 240 "they answer once more" answered_again "$before"
    echo "$(answers yes) times, $(answers no) times not" | tee /dev/fd/3
    cat "$work/answers.errors"
    [ "$before" -gt 0 ] && [ "$(answers no)" = 0 ]
}
answers() { grep -c "^$1" "$work/answers" || true; }
answered_again() { [ "$(answers yes)" -gt "$1" ]; }
others_end() {
    kill "$others"
    wait "$others" 2>/dev/null || true
}

# --- pools on a device, named as their type, built whatever is on it

fs_on() {
    define "${2:-fs}" --build=overwrite --start <<XML
<pool type='fs'><name>${2:-fs}</name><source><device path='$1'/><format type='ext4'/></source>
<target><path>/srv/${2:-fs}</path></target></pool>
XML
}
disk_on() {
    define disk --build=overwrite --start <<XML
<pool type='disk'><name>disk</name><source><device path='$1'/><format type='gpt'/></source><target><path>/dev</path></target></pool>
XML
}
logical_on() { made_of logical "<format type='lvm2'/>" "$@"; }
zfs_on() { made_of zfs '' "$@"; }
made_of() {
    local type=$1 format=$2 device
    shift 2
    {
        echo "<pool type='$type'><name>$type</name><source>"
        for device; do echo "<device path='$device'/>"; done
        echo "<name>$type</name>$format</source></pool>"
    } | define "$type" --build=overwrite --start
}

# over POOL: it goes, with what is on its device.
over() {
    [ "$(state "$1")" = inactive ] || poolctl stop "$1"
    case $1 in
        fs) poolctl delete "$1" ;;
        logical | zfs) poolctl delete "$1" --volumes ;;
    esac
    poolctl undefine "$1"
}

# two_paths: a multipath device mpatha of two paths, and a pool of it; adapter: a pool of the adapter of the first.
two_paths() {
    multipathd_runs
    define mpath --start <<XML
<pool type='mpath'><name>mpath</name><target><path>/dev/mapper</path></target></pool>
XML
    scsi_debug vpd_use_hostno=0 add_host=2 dev_size_mb=64
    wait_for 60 "the device is a volume" has_paths 2
}
has_paths() { is "$(paths | wc -l)" "$1"; }
paths() { poolctl --json vol show mpath/mpatha | jq -r '."member-paths"[]'; }
