"""``python -m fastvid.export RUN --to hf --out DIR``: a trained classifier as a folder that transformers opens."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Literal

import tyro

from fastvid.command import UserError, command, loading, user_errors
from fastvid.files import naming


@dataclass(frozen=True)
class ExportConfig:
    """Writes a run's best classifier as a folder for transformers (hf), or its adapters as one for peft."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or its classifier folder."""
    out: Path
    """Folder to write; new or empty."""
    to: Literal["hf", "peft"] = "hf"
    """hf: the whole model, for VJEPA2ForVideoClassification.from_pretrained. peft: the LoRA adapters and the head."""
    overwrite: bool = False
    """Replace an earlier export in the folder."""
    source: str | None = None
    """Present place of the model that was fine-tuned, if it was moved."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    config = tyro.cli(ExportConfig, prog="python -m fastvid.export", args=arguments, config=_FLAGS)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    with loading():
        from transformers.utils.logging import disable_progress_bar

        from fastvid.projects.load import find_saved
        from fastvid.report.records import read_json

    disable_progress_bar()
    with user_errors(ValueError), naming(config.out):
        project, folder = find_saved(config.run, classifier=True)
        result = read_json(folder.parent / "result.json") if folder.name == "classifier" else None
        if project.export is None:
            raise UserError(f"the run in {config.run} is of {project.name}, which exports nothing")
        classifier = resolve_name(project.load)(folder, source=config.source)
        export = resolve_name(project.export)
        out = export(classifier, config.out, config.to, result=result, overwrite=config.overwrite)
    print(f"written to {out}")
    if config.to == "peft" and classifier.about.approach == "pooler+lora":
        print("the trained pooler is not among peft's weights: --to hf exports all that was trained", file=sys.stderr)
    return 0


_FLAGS = (tyro.conf.FlagCreatePairsOff,)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
