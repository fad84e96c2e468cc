# shellcheck shell=bash disable=SC2154
# Users with sessions of the real logind, and what polkit makes of them.

# in_session SEAT COMMAND...: alice runs it in a session of her own, as a login makes it: `here` on the console that is
# seen, `behind` on another one, `elsewhere` without a seat.
in_session() {
    local seat=$1 status=0 terminal=()
    shift
    case $seat in
        here) terminal=(-p TTYPath=/dev/tty1 -p StandardInput=tty-force) ;;
        behind) terminal=(-p TTYPath=/dev/tty2 -p StandardInput=tty-force) ;;
    esac
    : >/run/said
    systemd-run --quiet --wait -p User=alice -p PAMName=login "${terminal[@]}" -p WorkingDirectory=/ \
        -p StandardOutput=append:/run/said -p StandardError=append:/run/said "$@" || status=$?
    cat /run/said
    return "$status"
}

logind_has_the_sessions() {
    # shellcheck disable=SC2016
    local show='loginctl show-session "$XDG_SESSION_ID" -p Seat -p Active --value | xargs'
    is "$(in_session here sh -c "$show")" "seat0 yes"
    is "$(in_session behind sh -c "$show")" "seat0 no"
    is "$(in_session elsewhere sh -c "$show")" "yes"
}

without_a_rule_no_session_may_change_anything() {
    local seat
    define images --build --start <<XML
<pool type='dir'><name>images</name><target><path>/srv/images</path></target></pool>
XML
    for seat in here behind elsewhere; do
        in_session $seat poolctl list
        refused AccessDenied in_session $seat poolctl --no-ask stop images
    done
    pool_is images active
}

# poolctl asks on its terminal, polkit and PAM judge the answer.
an_administrators_password_lets_a_user_do_it() {
    cat >/opt/test/answer <<'PY'
#!/usr/bin/python3
"""answer PASSWORD COMMAND...: runs it on a terminal and types the password when it is asked for."""
import os, pty, sys, termios, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
said = b""
while True:
    try:
        data = os.read(terminal, 1024)
    except OSError:
        break
    said += data
    if said.rstrip().lower().endswith(b"password:"):
        # What is typed before the echo is off is thrown away with it.
        while termios.tcgetattr(terminal)[3] & termios.ECHO:
            time.sleep(0.05)
        os.write(terminal, sys.argv[1].encode() + b"\n")
        print("asked")
        said = b""
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
    chmod 755 /opt/test/answer
    refused AccessDenied in_session here /opt/test/answer wrong poolctl stop images
    in_session here /opt/test/answer root poolctl stop images
    pool_is images inactive
    in_session elsewhere /opt/test/answer root poolctl start images
    pool_is images active
}

a_rule_can_tell_who_is_at_the_machine() {
    cat >/etc/polkit-1/rules.d/10-here.rules <<'JS'
polkit.addRule(function(action, subject) {
    if (action.id == "org.poold1.control-pool" && subject.local && subject.active && subject.user == "alice")
        return polkit.Result.YES;
});
JS
    wait_for 60 "polkit has read the rule" in_session here poolctl --no-ask refresh images
    in_session here poolctl --no-ask stop images
    refused AccessDenied in_session behind poolctl --no-ask start images
    refused AccessDenied in_session elsewhere poolctl --no-ask start images
    refused AccessDenied as alice poolctl --no-ask start images
    pool_is images inactive
    in_session here poolctl --no-ask start images
    refused AccessDenied in_session here poolctl --no-ask undefine images
}

step logind_has_the_sessions
step without_a_rule_no_session_may_change_anything
step an_administrators_password_lets_a_user_do_it
long step a_rule_can_tell_who_is_at_the_machine
