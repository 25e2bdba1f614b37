#!/bin/sh
# Sets up what is missing and runs every check: what CI runs, and what a change has to pass.
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh
setup test
export CARGO_TERM_COLOR=never

step() {
    echo "== $*"
    "$@"
}

deny() {
    command -v cargo-deny >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny@0.20.2
    cargo deny --all-features check bans licenses sources
    # The list of advisories is fetched from the network; without one the check says so and is skipped.
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny --all-features check advisories
    else
        echo "the list of advisories cannot be fetched: skipped"
    fi
}

step cargo fmt --check
step cargo clippy --quiet --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --quiet --no-deps
step deny
step tools/vendor.sh
# Socket.IO takes part in tests/change, too.
step npm ci --prefix tests/apps --no-audit --no-fund --silent
step cargo test --no-fail-fast
step cargo build --quiet
step node tests/apps/run.mjs --homing target/debug/homing
step python3 -m venv target/python
step target/python/bin/pip install --quiet --disable-pip-version-check -r tests/grpc/requirements.txt
step target/python/bin/python -B tests/grpc/run.py target/debug/homing
step tools/testssl.sh --quick
