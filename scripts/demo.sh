#!/usr/bin/env bash
# Install the package into .venv and run its demonstration: `bash scripts/demo.sh`.
# Arguments go to the demo: `bash scripts/demo.sh --output /tmp/demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment .venv
"$PIP" install --quiet --constraint constraints.txt --editable .
.venv/bin/napari-ips demo "$@"
