#!/usr/bin/env bash
# Run all checks and tests, installing what is missing: `bash scripts/test.sh`.
# Arguments go to pytest: `bash scripts/test.sh tests/test_io.py -x`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

find_screen
make_environment .venv-test
"$PIP" install --quiet --constraint constraints.txt tox
# `py` is the Python of this environment; other versions run with plain `tox`.
# shellcheck disable=SC2086 # several words, or none
$SCREEN .venv-test/bin/tox run -e lint,types,manifest,py -- "$@"
