# shellcheck shell=bash
# Directories that are dear to make are made once and kept. Sourced.

# cached DIRECTORY BUILD [ARG...]: has the directory there, made by `BUILD WORK ARG...`, which fills WORK.
# One builds and the others wait for it; what is half built has another name and is never taken.
# What other versions of the inputs made (the same name but for what follows its last `-`) goes
# when nothing was made of it for a week.
cached() {
    local dir=$1 build=$2 cache kind work
    shift 2
    cache=${dir%/*} kind=${dir##*/} kind=${kind%-*}
    if [ -d "$dir" ]; then
        touch "$dir"
        return 0
    fi
    mkdir -p "$cache"
    (
        exec 8>"$cache/$kind.lock"
        flock 8
        [ ! -d "$dir" ] || exit 0
        # Whoever was building and was killed has lost the lock.
        rm -rf --one-file-system "$cache/$kind-building".*
        work=$(mktemp -d "$cache/$kind-building.XXXXXX")
        trap 'rm -rf --one-file-system "$work"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        chmod 755 "$work"
        "$build" "$work" "$@" 8>&-
        mv -T "$work" "$dir"
        trap - EXIT
        find "$cache" -maxdepth 1 -name "$kind-*" -mtime +7 -not -path "$dir" -exec rm -rf --one-file-system {} +
    )
}

# digest FILE... <<<MORE: the key that inputs have.
digest() { cat "$@" - | sha256sum | cut -c1-16; }
