# Installs what a build and its tests need and what is missing; says the line to run where it may not.
# Sourced by the other tools. Words: `build`, and with them `test`.

need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

setup() {
    missing=""
    need cmake cmake # zlib-ng, a part of Pingora, is built with it
    need cc gcc
    need c++ g++
    if [ "$1" = test ]; then
        need openssl openssl # a backend that speaks TLS
        need node nodejs     # real applications
        need npm npm
        need curl curl
        need patch patch     # tools/vendor.sh
        need h2load nghttp2-client
        need chromium chromium # a browser
        need certutil libnss3-tools # whom it trusts
        need testssl testssl.sh
        need python3 python3 # gRPC
        python3 -c "import ensurepip" 2>/dev/null || missing="$missing python3-venv"
        need pebble pebble   # an ACME server
        # Has the last word on metrics; its package brings a whole server, which a laptop can do without.
        [ -z "${CI:-}" ] || need promtool prometheus
    fi
    if [ -n "$missing" ]; then
        install="apt-get install -y --no-install-recommends$missing"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            # Services of the packages are not wanted, only their commands.
            export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
            apt-get update -qq && $install >/dev/null || exit 1
        else
            echo "missing:$missing; on Debian run: sudo $install" >&2
            exit 1
        fi
    fi
    if ! command -v cargo >/dev/null 2>&1; then
        echo "missing: a Rust toolchain; see https://rustup.rs" >&2
        exit 1
    fi
}
