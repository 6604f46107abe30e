#!/usr/bin/env bash
# Downloads the wheels that fastvid needs on a machine without network, for Linux on x86-64: fastvid's dependencies, and
# theirs, less the packages that a machine with PyTorch has ("there", below). Wheels only, 60 MiB at most.
#
#   tools/gpu_wheels.sh DIR [PYTHON_VERSION]        default: 3.12
#
# There: python -m pip install --no-index --no-deps DIR/*.whl
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "usage: tools/gpu_wheels.sh DIR [PYTHON_VERSION]" >&2; exit 2; }
folder=$1 version=${2:-3.12} python=${PYTHON:-python3}
[[ $version =~ ^3\.[0-9]+$ ]] || { echo "PYTHON_VERSION is $version: give it as 3.12" >&2; exit 2; }
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
    echo "$folder is not empty: give a new folder" >&2
    exit 2
fi
# Not typing-extensions, which is there too: a wheel may ask for a newer one.
there="torch numpy timm transformers peft safetensors pillow rich pytest pytest-benchmark pytest-xdist pybind11 ninja cmake
    matplotlib tqdm tensorboard fsspec scipy"

partial=$(mktemp -d)
trap 'rm -rf "$partial"' EXIT

# The dependencies in pyproject.toml whose packages are not there, one a line.
wanted=$("$python" - "$root/pyproject.toml" $there <<'PY'
import re, sys
from pathlib import Path

block = re.search(r"^dependencies = \[\n(.*?)^\]", Path(sys.argv[1]).read_text(), re.DOTALL | re.MULTILINE)
wanted = re.findall(r'^\s*"([^"]+)"', block[1], re.MULTILINE)
print(*(one for one in wanted if re.match(r"[\w.-]+", one)[0].lower() not in sys.argv[2:]), sep="\n")
PY
)
mapfile -t wanted <<<"$wanted"

platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010 \
    manylinux_2_5 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
done
"$python" -m pip --disable-pip-version-check download -q --only-binary=:all: --dest "$partial" \
    --python-version "$version" --implementation cp --abi "cp${version/./}" --abi abi3 --abi none \
    "${platforms[@]}" "${wanted[@]}"

# What is there need not come along; what the wheels ask of it is printed. Nothing is left in DIR where they are too large.
"$python" - "$partial" "$folder" $there <<'PY'
import re, shutil, sys, zipfile
from email.parser import HeaderParser
from pathlib import Path

LIMIT = 60 << 20
partial, folder, there = Path(sys.argv[1]), Path(sys.argv[2]), set(sys.argv[3:])


def name(said: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"\s*([\w.-]+)", said)[1]).lower()


if others := [path.name for path in partial.iterdir() if path.suffix != ".whl"]:
    sys.exit(f"pip left files that are not wheels: {', '.join(others)}")
wheels = sorted(path for path in partial.iterdir() if name(path.name.split("-")[0]) not in there)
total = sum(path.stat().st_size for path in wheels)
if total > LIMIT:
    sizes = ", ".join(f"{path.name} ({path.stat().st_size / 2**20:.1f} MiB)" for path in wheels)
    sys.exit(f"the wheels take {total / 2**20:.1f} MiB and 60 MiB are allowed: {sizes}")
asked = []
for path in wheels:
    with zipfile.ZipFile(path) as wheel:
        (metadata,) = [entry for entry in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry)]
        about = HeaderParser().parsestr(wheel.read(metadata).decode())
    needed = [one for one in about.get_all("Requires-Dist", []) if "extra ==" not in one]
    asked += [f"{one} (by {about['Name']})" for one in needed if name(one) in there]
folder.mkdir(parents=True, exist_ok=True)
for path in wheels:
    shutil.move(path, folder / path.name)
    print(f"{(folder / path.name).stat().st_size / 2**20:6.2f} MiB  {path.name}")
print(f"{total / 2**20:6.2f} MiB in {len(wheels)} wheels")
print(f"the machine itself must have: {'; '.join(asked) or 'nothing for them'}")
PY
