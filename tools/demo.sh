#!/bin/sh
# Sets up what is missing, builds, and shows the main job. Arguments go to `homing demo`.
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh
setup build
exec cargo run --release --quiet -- demo "$@"
