# What CI runs.
check:
    tools/test.sh

# The quick part: formatting, lints, and tests without the network.
quick:
    cargo fmt --check
    cargo clippy --quiet --all-targets -- -D warnings
    cargo test --quiet --lib --test tidy --test config --test simulation

# Three backends and an edge, to try by hand.
demo *arguments:
    tools/demo.sh {{arguments}}

# Processor time per request, beside other proxies.
compare *arguments:
    cargo bench --bench compare -- {{arguments}}
