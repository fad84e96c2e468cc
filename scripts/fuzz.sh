#!/bin/bash
# fuzz.sh [--check] [TARGET...]: tries each fuzz target for FUZZ_SECONDS (300) and prints the edges that it reached.
#
# Seeds are made by the targets themselves; what is found to reach further is kept in fuzz/corpus. With --check a bug is
# planted, which has to be found within a minute. Needs no nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-300}
features=()
if [ "${1-}" = --check ]; then
    shift
    features=(--features planted-bug)
    set -- qcow2
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz" >&2
    cargo install --quiet --locked cargo-fuzz
fi
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
[ $# = 0 ] || targets=("$@")

# All of it is safe code or the kernel's business: bounds and overflows are panics, so no sanitizer is needed.
export RUSTFLAGS=-Ccodegen-units=8
host=$(rustc --version --verbose | sed -n 's/^host: //p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What libFuzzer says of one run in few words.
said() {
    local runs reached
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$1")
    reached=$(sed -n 's/.* cov: \([0-9]*\) .* corp: \([0-9]*\).*/\1 edges, \2 inputs/p' "$1" | tail -1)
    echo "${runs:-?} runs, ${reached:-no edges}"
}

status=0
for target in "${targets[@]}"; do
    cargo fuzz build --sanitizer none "${features[@]}" "$target"
    program=fuzz/target/$host/release/$target
    seeds=$work/$target
    POOLD_FUZZ_SEEDS=$seeds "$program" 2>/dev/null
    corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target/
    if [ "${features[*]-}" ]; then
        # Only from the seeds: that it was found before proves nothing.
        corpus=$work/corpus artifacts=$work/ seconds=60
    fi
    mkdir -p "$corpus" "$artifacts"
    log=$work/$target.log
    if "$program" "$corpus" "$seeds" -max_total_time="$seconds" -max_len=20000 -timeout=5 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$artifacts" >"$log" 2>&1; then
        found=''
    else
        found=$(grep -m1 -E "panicked at|ERROR: libFuzzer" "$log" || tail -1 "$log")
    fi
    case ${features[*]-}/$found in
    /) echo "RESULT fuzz $target pass $seconds s, $(said "$log")" ;;
    /*) echo "RESULT fuzz $target fail $found" && tail -40 "$log" && status=1 ;;
    */) echo "RESULT fuzz $target-planted fail not found in $seconds s, $(said "$log")" && status=1 ;;
    *) echo "RESULT fuzz $target-planted pass found: $found" ;;
    esac
done
exit "$status"
