#!/bin/sh
# Checks that the sources in vendor/ are Pingora as published with the patches of vendor/patches, and nothing else.
set -eu
cd "$(dirname "$0")/.."
version=0.9.1
crates="pingora-core pingora-http pingora-proxy"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
# A package of its own, which the patches do not reach, makes cargo unpack what was published.
mkdir "$work/src"
: > "$work/src/lib.rs"
{
    printf '[package]\nname = "published"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
    for crate in $crates; do echo "$crate = \"=$version\""; done
} > "$work/Cargo.toml"
cargo fetch --quiet --manifest-path "$work/Cargo.toml"
for crate in $crates; do
    mkdir "$work/$crate"
    cp -R "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$crate-$version"/src "$work/$crate/"
done
for patch in vendor/patches/*.patch; do
    patch --quiet --strip=1 --directory="$work" < "$patch"
done
for crate in $crates; do
    diff -r "$work/$crate/src" "vendor/$crate/src"
done
echo "vendor/ is Pingora $version and $(ls vendor/patches | wc -l) patches"
