#!/bin/bash
# lint.sh: everything that must be clean before a change lands: fmt, clippy, rustdoc, shellcheck, XML.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --quiet --locked --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps --document-private-items

# By their first line, so that no script escapes by its name.
mapfile -t scripts < <(find . -name target -prune -o -name .git -prune -o -type f -print | while read -r file; do
    if head -c 32 "$file" | grep -qaE '^#! ?/bin/(ba)?sh|^#!/usr/bin/env (ba)?sh'; then echo "$file"; fi
done)
shellcheck "${scripts[@]}"

# Their DTDs are on the network; that they are well formed is what can be said here, the rest is the daemon's own test.
xmllint --nonet --noout dbus/interfaces/*.xml dbus/*.conf polkit/*.policy
