# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 1800
# Pools of the type iscsi on a target that is stopped, frozen or something else, as docs/dead-servers.md has it.
# shellcheck source=/dev/null
. "$here/matrix.sh"
matrix iscsi
