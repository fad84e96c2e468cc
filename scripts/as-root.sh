#!/bin/bash
# as-root.sh COMMAND...: runs it as root, by sudo when we are not.
set -euo pipefail
[ "$(id -u)" != 0 ] || exec "$@"
command -v sudo >/dev/null || { echo "this needs root (or sudo): $*" >&2; exit 1; }
exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,POOLD_CORPUS,KEEP "$@"
