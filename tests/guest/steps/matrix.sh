# shellcheck shell=bash disable=SC2154
# quick: only
# limit: 1800
# Pools whose servers are stopped, frozen or something else, as docs/dead-servers.md has it: for each type and fault one
# cell, and all of them at a time.
# shellcheck source=/dev/null
. "$here/matrix.sh"
matrix nfs cifs iscsi
