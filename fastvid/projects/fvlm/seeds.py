"""``python -m fastvid.projects.fvlm.seeds RUN...``: what runs with different seeds reached, as a Markdown table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvid.command import UserError, command
from fastvid.projects.fvlm.recipe_files import RESULT
from fastvid.report.records import read_json


@command
def main(arguments: list[str]) -> int:
    """Print the table of the named runs."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    print(table_over_seeds([Path(name) for name in arguments]))
    return 0


def table_over_seeds(runs: Sequence[Path]) -> str:
    """Return a Markdown table: a line for each bound of the demo's acceptance, then the fair ratio of each task.

    Raises:
        UserError: a run has no result or no bounds, or two have one seed.
    """
    found = [_result(run) for run in runs]
    seeds = [result["seed"] for result in found]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"each seed counts once; got seeds {seeds}")
    lines = [
        f"| measure | wanted | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        f"|---|---|{'---|' * len(seeds)}",
    ]
    for rows in zip(*(result["acceptance"] for result in found), strict=True):
        first = rows[0]
        cells = " | ".join(_value(row) for row in rows)
        name = f"{first['task']}: {first['measure']}, {first['condition']}"
        lines.append(f"| {name} | {first['kind']} {first['bound']:g} | {cells} |")
    for task in found[0]["ratios"]:
        for which, words in (("fair", "coarse trained with it"), ("alone", "coarse trained alone")):
            ratios = [result["ratios"][task].get(which) for result in found]
            if None not in ratios:
                cells = " | ".join(f"{r['ratio']:.3g} [{r['low']:.3g}, {r['high']:.3g}]" for r in ratios)
                lines.append(f"| {task}: CE coarse / CE fine, {words} | | {cells} |")
    met = [f"{sum(row['met'] for row in result['acceptance'])} of {len(result['acceptance'])}" for result in found]
    return "\n".join([*lines, f"| bounds met | | {' | '.join(met)} |"])


def _result(run: Path) -> dict[str, Any]:
    result: dict[str, Any] | None = read_json(run / RESULT)
    if result is None:
        raise UserError(f"{run} has no {RESULT}: a run of fvlm writes it at its end, which --resume comes to")
    if not result["acceptance"]:
        raise UserError(f"{run} was not on the demo's clips: its measures have no bounds")
    return result


def _value(row: dict[str, Any]) -> str:
    shown = "-" if row["value"] is None else f"{row['value']:.3f}"
    return shown if row["met"] else f"**{shown}**"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
