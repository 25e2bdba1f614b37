#!/bin/sh
# What testssl.sh finds on a listener with the default configuration, and a certificate as a CA issues them. Anything
# beyond LOW is an error. With --quick: only protocols, ciphers, and what the server prefers and shows, as in CI.
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh
setup test
checks=""
case "${1:-}" in
"") ;;
--quick) checks="--protocols --std --pfs --server-defaults" ;;
*)
    echo "usage: tools/testssl.sh [--quick]" >&2
    exit 2
    ;;
esac
cargo build --quiet

directory=$(mktemp -d)
children=""
# shellcheck disable=SC2086 # a list
clean_up() {
    [ -z "$children" ] || kill $children 2>/dev/null || true
    wait
    rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ca() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -keyout "$directory/ca.key" \
        -out "$directory/ca.pem" -subj "/CN=Homing Test CA" -addext basicConstraints=critical,CA:true \
        -addext keyUsage=critical,keyCertSign,cRLSign
}

# issue NAME KEY_OPTIONS...
issue() {
    name=$1
    shift
    openssl req -newkey "$@" -nodes -keyout "$directory/$name.key" -out "$directory/$name.csr" -subj /CN=localhost
    cat >"$directory/$name.ext" <<EXTENSIONS
subjectAltName=DNS:localhost
basicConstraints=CA:false
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
crlDistributionPoints=URI:http://ca.invalid/ca.crl
EXTENSIONS
    openssl x509 -req -in "$directory/$name.csr" -CA "$directory/ca.pem" -CAkey "$directory/ca.key" -CAcreateserial \
        -days 90 -extfile "$directory/$name.ext" -out "$directory/$name.pem"
}

# await FILE PATTERN: prints what \1 of the pattern is in the file, once it is there.
await() {
    for _ in $(seq 200); do
        found=$(sed -n "s/$2/\1/p" "$1" | tail -n 1)
        [ -z "$found" ] || break
        sleep 0.1
    done
    [ -n "$found" ] || { cat "$1" >&2; exit 1; }
    echo "$found"
}

{ ca && issue ecdsa ec -pkeyopt ec_paramgen_curve:prime256v1 && issue rsa rsa:2048; } >"$directory/openssl.log" 2>&1 ||
    { cat "$directory/openssl.log" >&2; exit 1; }

mkdir "$directory/site"
echo "<!doctype html><title>Shop</title>" >"$directory/site/index.html"
python3 -u -m http.server --bind 127.0.0.1 --directory "$directory/site" 0 >"$directory/backend.log" 2>&1 &
children="$!"
backend=$(await "$directory/backend.log" '^Serving HTTP on .* port \([0-9]*\) .*')

cat >"$directory/homing.yaml" <<CONFIG
state_dir: $directory/state
admin: off
access_log: off
listeners:
  - address: 127.0.0.1:0
    tls:
      certificates:
        - { certificate: $directory/ecdsa.pem, key: $directory/ecdsa.key }
        - { certificate: $directory/rsa.pem, key: $directory/rsa.key }
apps:
  - { name: shop, domains: [localhost], backends: [{ id: web.1, address: "127.0.0.1:$backend" }] }
CONFIG
target/debug/homing run -c "$directory/homing.yaml" 2>"$directory/homing.log" &
children="$children $!"
port=$(await "$directory/homing.log" '.* listening address=127.0.0.1:\([0-9]*\).*')
await "$directory/homing.log" '.*\(backend changed\).*' >/dev/null

findings=target/testssl.json
rm -f "$findings"
# Its exit code counts findings of every kind; what they are is asked below.
# shellcheck disable=SC2086 # a list
testssl --quiet --color 0 --warnings off --nodns none --ip 127.0.0.1 --add-ca "$directory/ca.pem" \
    --jsonfile "$findings" $checks "localhost:$port" >target/testssl.log || true

python3 - "$findings" <<'JUDGE'
import json
import sys

findings = json.load(open(sys.argv[1]))
good = {"OK", "INFO", "LOW"}
# What is no finding about the listener: it looks for a ticket of TLS 1.3 with a client that does not wait for it, and
# says WARN when it came too late, or when its own openssl knows no GOST.
no_findings = {("sessionresumption_ticket", "WARN"), ("engine_problem", "WARN")}
findings = [finding for finding in findings if (finding["id"], finding["severity"]) not in no_findings]
for finding in findings:
    if finding["severity"] not in {"OK", "INFO"}:
        print(f"{finding['severity']}: {finding['id']}: {finding['finding']}")
bad = [finding for finding in findings if finding["severity"] not in good]
protocols = {finding["id"]: finding["finding"] for finding in findings if finding["id"] in ("TLS1_2", "TLS1_3")}
print(f"testssl.sh: {len(findings)} findings, {len(bad)} beyond LOW; {protocols}")
sys.exit(1 if bad or len(protocols) < 2 or "offered" not in protocols["TLS1_3"] else 0)
JUDGE
