"""Results of the benchmarks as files, as a table and as a plot.

    pytest benchmarks --benchmark-only --benchmark-json run.json
    python -m benchmarks.report --json run.json

A pytest-benchmark file becomes ``benchmarks/results/<device>.json``, which replaces that device's last one. All results
there are then printed as Markdown, put into docs/benchmarks.md, those of GPUs also into docs/gpu.md, and drawn as
docs/roofline.png; without ``--json`` only that.
"""

import argparse
import json
import re
from pathlib import Path

from benchmarks.harness import predictions, roofline, thresholds
from benchmarks.harness.recorder import OURS, label
from benchmarks.harness.timing import CALL
from fastvid.units import size

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_BUSY = 1.0  # load average above which other work ran beside the benchmarks
# Markdown comments, between which the docs hold what this module prints.
_BLOCK = "<!-- {name} -->\n{text}\n<!-- end of {name} -->"


def result(run: dict, conditions: str = "") -> dict:
    """Convert the content of a pytest-benchmark file to that of a result file.

    Raises:
        ValueError: the file holds no rows, or rows of several devices.
    """
    entries = [b["extra_info"] for b in run["benchmarks"] if "rows" in b["extra_info"]]
    slugs = {entry["device"]["slug"] for entry in entries}
    if len(slugs) != 1:
        raise ValueError(f"expected the benchmarks of one device, found {', '.join(sorted(slugs)) or 'none'}")
    device = entries[0]["device"]
    load = f"load average {device['load_before']} at the start"
    conditions_met = [conditions] if conditions else []
    conditions_met.append(f"other work ran beside it: {load}" if device["load_before"] > _BUSY else load)
    commit = run.get("commit_info", {})
    return {
        "device": device,
        "conditions": "; ".join(conditions_met),
        "commit": commit.get("id"),
        "changed_since_commit": commit.get("dirty"),
        "rows": [row for entry in entries for row in entry["rows"]],
    }


def rounded(value: object) -> object:
    """Round numbers to four digits: more are noise, and make every diff a whole file."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def heading(found: dict) -> str:
    """Describe the device, date, versions and conditions of a result in a sentence."""
    device = found["device"]
    versions = [f"torch {device['torch']}"]
    versions += [f"{name} {device[name]}" for name in ("triton", "driver") if device["kind"] == "cuda" and device[name]]
    about = f"{device['name']}, {device['date']}, {', '.join(versions)}"
    return f"{about}; a copy reaches {device['copy_gb_per_s']:.4g} GB/s; {found['conditions']}."


def table(found: dict) -> str:
    """Format one result in Markdown: a row for each part of each benchmark."""
    gpu = found["device"]["kind"] == "cuda"
    columns = ["benchmark", "time", "GB/s", "of copy", *(["of datasheet"] if gpu else []), "faster than (threshold)"]
    columns += ["peak memory, ours / others", "launches, ours / others"] if gpu else []
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cells(row, gpu)) + " |" for row in found["rows"]]
    return "\n".join(lines)


def _cells(row: dict, gpu: bool) -> list[str]:
    metrics = row["metrics"]
    others = [variant for variant in row["ms"] if variant != OURS]
    share = {m: f"{100 * metrics[m]:.0f} %" if m in metrics else "" for m in thresholds.SHARES}
    bounds = {threshold["metric"]: threshold for threshold in row["floors"]}
    ratios = [
        f"{metrics[f'x {variant}']:.1f}x {_how(row, variant)}{_threshold(bounds.get(f'x {variant}'))}"
        for variant in others
    ]
    ratios += [
        f"{v:.2f} of the {m}{_threshold(bounds.get(m))}" for m, v in metrics.items() if m.startswith("memory of ")
    ]
    name = row["benchmark"] if row["part"] == CALL else label(row)
    time = _time(row["ms"][OURS]["median"]) if OURS in row["ms"] else ""
    cells = [name, time + _threshold(bounds.get("us")), f"{metrics['GB/s']:.4g}" if "GB/s" in metrics else ""]
    cells.append(share["share of copy"] + _threshold(bounds.get("share of copy")))
    if gpu:
        cells.append(share["share of datasheet"] + _threshold(bounds.get("share of datasheet")))
    cells.append(", ".join(ratios))
    if gpu:
        variants = [OURS, *others]
        peaks, launches = row["peak_bytes"], row["launches"]
        cells.append(" / ".join(size(peaks[s]) if s in peaks else "?" for s in variants))
        cells.append(" / ".join(str(launches.get(s) or "?") for s in variants))
    return cells


def _time(ms: float) -> str:
    return f"{1e3 * ms:.1f} us" if ms < 0.1 else f"{ms:.2f} ms"


def _how(row: dict, variant: str) -> str:
    """Return a variant's name, with how it was timed where that was not as the others."""
    how = row["ms"][variant]["how"].split(":")[0]
    return variant if how in ("wall clock", "graph") else f"{variant} [{how}]"


def _threshold(bound: dict | None) -> str:
    if bound is None:
        return ""
    return f" ({'' if bound['sign'] > 0 else '<= '}{bound['value']:g}{'' if bound['met'] else ', missed'})"


def load(folder: Path) -> list[dict]:
    """Load all results of a folder, CPUs first."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: one["device"]["kind"] != "cpu")


def blocks(results: list[dict]) -> dict[str, str]:
    """Return the generated blocks of the docs: name to Markdown."""
    shown = "\n\n".join(f"{heading(one)}\n\n{table(one)}" for one in results) or "Nothing has been measured."
    return {"results": shown}


def put(page: str, name: str, text: str) -> str:
    """Return a page with what stands between the comments of ``name`` replaced.

    Raises:
        ValueError: the page does not have that pair of comments once.
    """
    pattern = f"<!-- {re.escape(name)} -->\n.*?<!-- end of {re.escape(name)} -->"
    page, count = re.subn(pattern, lambda _: _BLOCK.format(name=name, text=text), page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"expected one pair of comments <!-- {name} -->, <!-- end of {name} -->, found {count}")
    return page


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, nargs="*", default=[], help="files of pytest --benchmark-json")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of result files")
    parser.add_argument("--docs", type=Path, help="page to put the tables into; default: docs/benchmarks.md")
    parser.add_argument("--plot", type=Path, help="PNG to draw; default: docs/roofline.png")
    parser.add_argument("--conditions", default="", help="what else should be known of the run")
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    for path in options.json:
        found = result(json.loads(path.read_text()), options.conditions)
        target = options.results / f"{found['device']['slug']}.json"
        target.write_text(json.dumps(rounded(found), indent=1) + "\n")
    results = load(options.results)
    text = blocks(results)
    print(text["results"])

    # The docs show the results that are in the repository, not those of another folder.
    own = options.results.resolve() == RESULTS.resolve()
    docs = options.docs or (ROOT / "docs" / "benchmarks.md" if own else None)
    plot = options.plot or (ROOT / "docs" if own else options.results) / "roofline.png"
    if docs:
        page = docs.read_text()
        for name, block in text.items():
            page = put(page, name, block)
        docs.write_text(page)
    if own:
        predictions.PAGE.write_text(predictions.page(results))
    try:
        roofline.draw(roofline.panels(results, thresholds.read(thresholds.PATH.read_text())), plot)
    except ImportError as error:
        print(f"no plot: {error}")


if __name__ == "__main__":
    main()
