#!/usr/bin/env bash
# Checks fastvid on the GPU of this machine in ten minutes, without network; or rehearses that on a CPU.
#
#   tools/gpu_check.sh RESULTS [--minutes M] [--from STAGE] [--rehearse] [--tune] [--wheels DIR] [--commit SHA]
#
# docs/gpu_check.md describes the stages, which are in tools/gpu. Exit code 0 when every stage passed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m tools.gpu "$@"
