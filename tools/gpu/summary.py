"""The page that is printed last: what ran, every number beside its target, every failure in a line."""

from typing import Any

from benchmarks.harness.recorder import label
from benchmarks.harness.thresholds import SHARES
from fastvid.units import size

MOST = 11_500  # characters
_FAILURES = 3_500  # characters of failures that stay where there is too much of everything


def summary(everything: dict[str, Any]) -> str:
    """Summarise a check's results on one page of at most :data:`MOST` characters."""
    stages = everything["stages"]
    head = [*_head(everything), "", *_table(stages), ""]
    failures = [f"{stage['stage']}: {line}" for stage in stages for line in stage["found"]["failures"]]
    rows = [row for stage in stages for row in stage["found"]["rows"]]
    bad = _within(["failures:", *failures] if failures else ["no failures"], _FAILURES)
    left = MOST - sum(len(line) + 1 for line in [*head, *bad]) - 200
    steps = {name: value for stage in stages for name, value in stage["found"]["values"].items()}
    targets = [line for row in rows for line in _targets(row, steps.get(row["benchmark"]))]
    missed = sum(line.startswith("MISSED") for line in targets)
    title = f"targets (benchmarks/harness/thresholds.toml): {len(targets) - missed} met, {missed} missed"
    targets.sort(key=lambda line: not line.startswith("MISSED"))  # first, where not all have room
    return "\n".join([*head, *_within([title, *targets], left), "", *bad, ""])


def _head(everything: dict[str, Any]) -> list[str]:
    values = {stage["stage"]: stage["found"]["values"] for stage in everything["stages"]}
    facts = values.get("facts", {})
    device = facts.get("device", {})
    programs = "; ".join(
        f"{name}: {version}" for name, version in facts.get("programs", {}).items() if name != "python"
    )
    lines = [
        ("REHEARSAL on a CPU, whose numbers mean nothing: " if everything["rehearsal"] else "")
        + f"{device.get('name', 'unknown device')}, {everything['date']}, commit {everything['commit'][:12]}",
        f"torch {device.get('torch')}, triton {device.get('triton')}, python {device.get('python')}, driver "
        f"{device.get('driver')}; {programs}",
    ]
    if "copy_gb_per_s" in device:
        sheet = f" of {device['datasheet_gb_per_s']} on the datasheet" if device.get("datasheet_gb_per_s") else ""
        gemm = f", GEMM {facts['gemm_tflop_per_s']:.4g} TFLOP/s" if "gemm_tflop_per_s" in facts else ""
        lines.append(f"copy {device['copy_gb_per_s']:.4g} GB/s{sheet}{gemm}")
    if values.get("build", {}).get("core"):
        lines.append(f"core: {values['build']['core']}")
    lines += [f"LEFT OUT: {what}" for what in values.get("smoke", {}).get("left out", [])]
    return [line[:400] for line in lines]


def _table(stages: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'stage':10s} {'':8s} {'s':>6s} {'of':>5s}"]
    for stage in stages:
        outcome = stage["why"] or _outcome(stage["stage"], stage["found"])
        line = f"{stage['stage']:10s} {stage['ended']:8s} {stage['seconds']:6.1f} {stage['cap']:5.0f}  {outcome}"
        lines.append(line[:420].rstrip())
    return lines


def _outcome(name: str, found: dict[str, Any]) -> str:
    """Return what a stage found, in a phrase."""
    values = found["values"]
    if name == "smoke":
        counts = ", ".join(f"{count} {what}" for what, count in values.get("passed", {}).items())
        return f"of {values.get('checks')} checks passed: {counts}"
    if name == "ops":
        left = f"; {len(values['not measured'])} not measured" if values.get("not measured") else ""
        return (
            f"{values.get('measured', 0)} of {values.get('benchmarks')} benchmarks; {values.get('compiling', '')}{left}"
        )
    if name == "steps":
        return "; ".join(
            f"{step.removeprefix('SALT step, ')} {numbers['clips/s']:.3g} clips/s"
            + (f" {numbers['peak GB']:.3g} GB" if "peak GB" in numbers else "")
            for step, numbers in values.items()
            if isinstance(numbers, dict) and "clips/s" in numbers
        )
    if name == "train":
        return "; ".join(_run(preset, values[preset]) for preset in ("demo", "proof") if preset in values)
    if name == "suites":
        tests = ", ".join(f"{count} {what}" for what, count in values.get("tests", {}).items())
        return "; ".join(filter(None, (tests, values.get("stopped"))))
    if name == "sanitizer":
        return "; ".join(f"{tool}: {values[tool]}" for tool in ("memcheck", "racecheck") if tool in values)
    return ""


def _run(preset: str, found: dict[str, Any]) -> str:
    stages = [
        f"{stage} {r['clips_per_s']:.0f} clips/s (data {100 * r.get('share_data', 0):.0f} %"
        + (f", {r['gpu_peak_gb']:.2f} GB)" if "gpu_peak_gb" in r else ")")
        for stage, r in found.items()
        if stage != "probes"
    ]
    probes = found.get("probes", {}).get("student", {})
    shown = [f"{name} {100 * value:.0f} %" for name, value in probes.items() if isinstance(value, float)]
    return f"{preset}: {', '.join([*stages, *shown])}"


def _targets(row: dict[str, Any], step: Any) -> list[str]:
    """Return a line for each threshold of a row, with the bound of one that was missed; ``step``: a step's values."""
    lines = []
    for threshold in row["floors"]:
        got, sign = row["metrics"][threshold["metric"]], ">=" if threshold["sign"] > 0 else "<="
        bound = _number(threshold["metric"], threshold["value"], bare=True)
        line = f"{label(row)}: {_number(threshold['metric'], got)} ({sign} {bound})"
        lines.append(f"met    {line}" if threshold["met"] else f"MISSED {line}{_bound(row, step)}")
    return lines


def _number(metric: str, value: float, bare: bool = False) -> str:
    if metric in SHARES:
        text, rest = f"{100 * value:.0f} %", f" {metric.removeprefix('share ')}"
    elif metric.startswith("x "):
        text, rest = f"{value:.3g}x", f" {metric[2:]}"
    else:
        text, rest = f"{value:.3g}", f" {metric}"
    return text if bare else text + rest


def _bound(row: dict[str, Any], step: Any) -> str:
    """Return what bounds a row: the time that its least bytes take at the speed of a copy, or how much of the GEMM rate
    it reached; where neither is known, where the target is from."""
    metrics = row["metrics"]
    if isinstance(step, dict) and "share of the GEMM rate" in step:
        return f"; {step['GFLOP']:.4g} GFLOP at {100 * step['share of the GEMM rate']:.0f} % of the GEMM rate"
    if not row["least_bytes"] or "share of copy" not in metrics:
        return "; " + "; ".join(threshold["source"] for threshold in row["floors"] if not threshold["met"])
    least_us = metrics["us"] * metrics["share of copy"]
    launches = f", {metrics['launches']} launches" if "launches" in metrics else ""
    return (
        f"; {size(row['least_bytes'])} take {least_us:.3g} us at the speed of a copy, and it took "
        f"{metrics['us']:.3g} us{launches}"
    )


def _within(lines: list[str], most: int) -> list[str]:
    """Return the first lines that have room, and how many have none."""
    kept: list[str] = []
    length = 0
    for i, line in enumerate(lines):
        length += len(line) + 1
        if length > most:
            return [*kept, f"... and {len(lines) - i} more lines: check.json"]
        kept.append(line)
    return kept
