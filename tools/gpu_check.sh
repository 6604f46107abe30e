#!/usr/bin/env bash
# Builds fastvid in place on a machine with a CUDA GPU, nvcc and torch, without network or build isolation, runs the
# tests of the kernels and all benchmarks on the GPU, the native kernels under compute-sanitizer where that is installed,
# and leaves the results as JSON: gpu_check.json is the summary, results/ what the benchmarks measured.
#
#   tools/gpu_check.sh RESULTS_FOLDER
#
# Exit code 0 when everything that ran passed.
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:?usage: tools/gpu_check.sh RESULTS_FOLDER}
mkdir -p "$results"
results=$(cd "$results" && pwd)
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

"$python" - <<'PY' || exit 1
import importlib.util, shutil, sys
missing = [m for m in ("torch", "setuptools", "pybind11", "pytest", "pytest_benchmark") if not importlib.util.find_spec(m)]
missing += [m for m in ("cmake", "ninja") if not shutil.which(m)]
if missing:
    sys.exit(f"missing: {', '.join(missing)}")
import torch
if not torch.cuda.is_available():
    sys.exit("torch sees no CUDA device")
PY

FASTVID_CUDA=1 "$python" setup.py -q build_ext --inplace >"$results/build.log" 2>&1 || { tail -40 "$results/build.log"; exit 1; }

code=0
"$python" -m pytest tests/gpu tests/conformance tests/ops -q -rs --junitxml="$results/tests.xml" || code=1
"$python" -m pytest benchmarks --benchmark-only --device cuda -q -rs --benchmark-json="$results/benchmarks.json" || code=1
if [ -s "$results/benchmarks.json" ]; then
    "$python" -m benchmarks.report --json "$results/benchmarks.json" --results "$results/results" || code=1
else
    echo "no benchmark ran to its end"
    code=1
fi

# The CUDA kernels of the native core under the sanitizer, and only those: it slows everything, Triton's compiler too.
# A test that is skipped proves nothing, so that one must have passed.
sanitized=()
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        log="$results/$tool.log"
        if timeout 900 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$python" -m pytest tests/gpu/test_gpu_ops.py tests/conformance -q -k "cuda or (native and not far)" \
            -p no:cacheprovider >"$log" 2>&1 &&
            grep -q "[0-9] passed" "$log"; then
            sanitized+=("$tool: passed")
        else
            sanitized+=("$tool: FAILED or took over 15 minutes, see $tool.log")
            tail -20 "$log"
            code=1
        fi
    done
else
    sanitized+=("not run: compute-sanitizer is not on the PATH")
fi
printf 'compute-sanitizer %s\n' "${sanitized[@]}"

"$python" - "$results" "${sanitized[@]}" <<'PY' || code=1
import json, subprocess, sys, xml.etree.ElementTree as xml
from datetime import date
from pathlib import Path

import torch

from benchmarks.recorder import missed
from fastvid import _native

results = Path(sys.argv[1])
suite = xml.parse(results / "tests.xml").getroot().find("testsuite")
cases = [(f"{c.get('classname')}::{c.get('name')}", c) for c in suite.iter("testcase")]
skipped = {name: c.find("skipped").get("message") for name, c in cases if c.find("skipped") is not None}
driver = subprocess.run(
    ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"],
    capture_output=True, text=True,
).stdout.strip().splitlines()
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
rows = [row for path in results.glob("results/*.json") for row in json.loads(path.read_text())["rows"]]
report = {
    "date": date.today().isoformat(),
    "commit": commit,
    "gpu": driver,
    "torch": torch.__version__,
    "build": _native.BUILD_INFO,
    "tests": {
        "passed": sum(c.find("failure") is None and c.find("error") is None and c.find("skipped") is None for _, c in cases),
        "skipped": skipped,
        "failed": [name for name, c in cases if c.find("failure") is not None or c.find("error") is not None],
    },
    "sanitizer": sys.argv[2:],
    "benchmarks": {
        "results": sorted(str(path.relative_to(results)) for path in results.glob("results/*.json")),
        "rows": len(rows),
        "missed": missed(rows),
    },
}
(results / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n")
# Decoders may be missing, and a second GPU; the ops may not.
unproved = [f"{name} ({why})" for name, why in skipped.items() if "test_gpu_ops" in name and why != "one GPU"]
if unproved or not report["tests"]["passed"]:
    sys.exit("\n".join(["tests of the GPU were skipped: nothing is proved", *unproved]))
print(f"{report['tests']['passed']} tests passed, {len(report['tests']['failed'])} failed; {results / 'gpu_check.json'}")
PY
exit $code
