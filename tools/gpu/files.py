"""The files that a check leaves in its folder, six at most: whole at every moment, for it may be killed at any."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import rounded
from fastvid.files import write_whole
from tools.gpu.summary import summary

if TYPE_CHECKING:
    from tools.gpu.check import Check

CHECK, SUMMARY, LOGS = "check.json", "summary.txt", "logs.tar.gz"
# Beside these: <card>.json, and what stages write themselves: launches.json (ops), runs.tar.gz (train).
_LOG_BYTES = 1 << 20  # of each log, its end


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the stages of the check that the folder holds, none if it holds none."""
    path = folder / CHECK
    return json.loads(path.read_text())["stages"] if path.exists() else []


def write(check: Check) -> None:
    """Write what there is so far."""
    everything = check.as_dict()
    _put(check.results / CHECK, (json.dumps(rounded(everything)) + "\n").encode())
    _put(check.results / SUMMARY, summary(everything).encode())
    result = as_result(everything)
    if result is not None:
        text = json.dumps(rounded(result), indent=1) + "\n"
        _put(check.results / f"{result['device']['slug']}.json", text.encode())
    _put(check.results / LOGS, _logs(check.work / "logs"))


def as_result(everything: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rows of all stages in the form of ``benchmarks/results``, or None where there are none."""
    stages = {stage["stage"]: stage["found"] for stage in everything["stages"]}
    rows = [row for stage in stages.values() for row in stage["rows"]]
    devices = [stage["values"]["device"] for stage in stages.values() if "device" in stage["values"]]
    if not rows or not devices:
        return None
    device = {**devices[-1], **next((one for one in devices if "copy_gb_per_s" in one), {})}
    origin = "a rehearsal: its numbers mean nothing" if everything["rehearsal"] else "tools/gpu_check.sh"
    return {
        "device": device,
        "conditions": f"{origin}; load average {device['load_before']} at the start",
        "commit": everything["commit"],
        "changed_since_commit": None,  # the tree may be a copy without git
        "rows": rows,
    }


def _put(path: Path, content: bytes) -> None:
    write_whole(path, content, sync=False)


def _logs(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=3) as archive:
        for path in sorted(folder.glob("*.log")):
            content = path.read_bytes()[-_LOG_BYTES:]
            info = tarfile.TarInfo(f"logs/{path.name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
