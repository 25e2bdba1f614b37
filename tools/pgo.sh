#!/bin/sh
# Builds Homing with profile-guided optimisation: an instrumented build is put to work by the benchmarks, and what was
# counted there steers the second build. The program is target/pgo/release/homing; docs/performance.md says what it gains.
#
#   tools/pgo.sh [COMPARE-OPTION...]
#
# The options go to the second step, such as `--seconds 10`. Needs llvm-profdata of the LLVM that rustc has: either
# `rustup component add llvm-tools`, or Debian's llvm-N. Takes half an hour on two cores.
set -eu
cd "$(dirname "$0")/.."
CARGO_TERM_COLOR=never
export CARGO_TERM_COLOR

# The version of LLVM that rustc was built with.
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profdata=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata
if [ ! -x "$profdata" ]; then
    profdata=$(command -v "llvm-profdata-$llvm" || command -v "/usr/lib/llvm-$llvm/bin/llvm-profdata") || {
        echo "pgo: llvm-profdata of LLVM $llvm not found; run: rustup component add llvm-tools" >&2
        echo "pgo: or, as root on Debian: apt-get install -y llvm-$llvm" >&2
        exit 1
    }
fi

pgo=$PWD/target/pgo
rm -rf "$pgo/raw" "$pgo/homing.profdata"
mkdir -p "$pgo/raw"

echo "== instrumented build"
# Not with less optimisation, which would be quicker: what was counted is found again by the names of functions, and
# with another profile of Cargo they have others.
LLVM_PROFILE_FILE="$pgo/raw/build-%p.profraw" RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-generate=$pgo/raw" \
    cargo build --quiet --release --bin homing --target-dir "$pgo/instrumented"
# Build scripts and macros were counted, too.
rm -f "$pgo"/raw/*.profraw

echo "== work to learn from"
LLVM_PROFILE_FILE="$pgo/raw/homing-%m-%p.profraw" cargo bench --bench compare -- \
    --program "homing=$pgo/instrumented/release/homing" --only homing,homing-log --rounds 1 --seconds 5 \
    --workload followed,new-client,new-connection,tls,tls-new,tls-resumed,h2,upload,download-1m,websocket,apps "$@"
"$profdata" merge -o "$pgo/homing.profdata" "$pgo"/raw/homing-*.profraw

echo "== optimised build"
RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-use=$pgo/homing.profdata" \
    cargo build --quiet --release --bin homing --target-dir "$pgo"
echo "built: target/pgo/release/homing"
