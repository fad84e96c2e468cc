# shellcheck shell=bash
# What the steps of the host and the guest tier are written with. A step is a function that runs in a shell of its own
# with `set -e`: the first command that fails fails it. Sourced by a tier's support.sh, which sets
#
#   AREA       host or guest
#   work       a directory for what steps leave for each other
#   WORDS      what was selected, for `selected`
#   m          the command that runs another in the machine, as root
#   TRACE      1 to see what each step does (optional)
# shellcheck disable=SC2154

passed=0 failed=0 skipped=0

# step NAME [FUNCTION [ARGUMENT...]]: runs the function (default: of the step's name) and reports, with what it writes to
# descriptor 3 as a note; on failure with what it printed and what the journal says. With -a although it was not
# selected.
step() {
    local name log=$work/step.log status
    if [ "$1" = -a ]; then shift; else selected "$1" || return 0; fi
    name=$1
    [ $# = 1 ] || shift
    # Not as part of a list (`||`, `if`): that would take the effect from `set -e`.
    (
        set -eE
        trap where ERR
        [ "${TRACE:-0}" = 0 ] || set -x
        "$@"
    ) 3>"$work/note" >"$log" 2>&1 </dev/null
    status=$?
    [ "${TRACE:-0}" = 0 ] || sed 's/^/    | /' "$log"
    case $status in
        0) passed=$((passed + 1)); echo "RESULT $AREA $name pass $(cat "$work/note")" ;;
        77) skipped=$((skipped + 1)); echo "RESULT $AREA $name skip $(cat "$work/note")" ;;
        *)
            failed=$((failed + 1))
            [ "${TRACE:-0}" != 0 ] || sed 's/^/    | /' "$log"
            m journalctl --no-pager --quiet -u 'poold*' -n 15 2>/dev/null | sed 's/^/    journal: /'
            echo "RESULT $AREA $name fail $(grep '^failed: ' "$log" | tail -n 1)"
            ;;
    esac
}

# skip WHY: ends the step without a verdict.
skip() {
    echo "$*" >&3
    exit 77
}

# Where in a step's own text something failed.
where() {
    local frame
    for frame in "${!BASH_SOURCE[@]}"; do
        [[ ${BASH_SOURCE[frame]} == */steps/* ]] || continue
        local file=${BASH_SOURCE[frame]} line=${BASH_LINENO[frame - 1]}
        echo "failed: ${file##*/}:$line: $(sed -n "${line}s/^ *//p" "$file")" >&2
        return
    done
}

selected() {
    local word
    [ ${#WORDS[@]} -gt 0 ] || return 0
    for word in "${WORDS[@]}"; do [[ $1 != *"$word"* ]] || return 0; done
    return 1
}

summary() {
    echo "$AREA: $passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; the seconds are for giving up.
wait_for() {
    local seconds=$1 what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@" >"$work/try" 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { cat "$work/try"; echo "waited $seconds s in vain until $what"; return 1; }
        sleep 0.05
    done
}

# Succeeds when the command fails; `!` would hide it from `set -e`.
not() { if "$@"; then echo "succeeded: $*"; return 1; fi; }

# is ACTUAL EXPECTED
is() { [ "$1" = "$2" ] || { echo "is '$1', not '$2'"; return 1; }; }

# A value from systemd: unit_is UNIT PROPERTY VALUE.
unit() { m systemctl show --value -p "$2" "$1"; }
unit_is() { is "$(unit "$1" "$2")" "$3"; }
daemon_pid() { unit poold.service MainPID; }

# pool NAME: its object path; property PATH INTERFACE NAME: its value in busctl's words.
pool() {
    m busctl call org.poold1 /org/poold1 org.poold1.Manager LookupPool 'sa{sv}' "$1" 0 |
        sed 's/^o "\(.*\)"$/\1/'
}
property() { m busctl get-property org.poold1 "$1" "org.poold1.$2" "$3"; }
pool_is() { is "$(property "$(pool "$1")" Pool State)" "s \"$2\""; }

# configure LINE...: the machine's poold.toml; the service is started anew.
configure() {
    printf '%s\n' "$@" >"$work/poold.toml"
    m sh -c 'mkdir -p /etc/poold; cat >/etc/poold/poold.toml' <"$work/poold.toml"
    m systemctl restart poold.service
}

# drop_in NAME LINE...: a drop-in of poold.service until the next boot.
drop_in() {
    local name=$1
    shift
    printf '%s\n' "$@" >"$work/drop-in"
    m sh -c "mkdir -p /run/systemd/system/poold.service.d
        cat >/run/systemd/system/poold.service.d/$name.conf" <"$work/drop-in"
    m systemctl daemon-reload
}
drop_in_away() {
    m rm "/run/systemd/system/poold.service.d/$1.conf"
    m systemctl daemon-reload
}
