"""``python -m fastvid.export RUN --to hf --out DIR``: a trained model as a folder that other libraries open."""

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
    """Writes what a run trained, an encoder, a classifier or a vision-language model, as a folder for transformers
    (hf); an encoder for timm, torch.export and ONNX too; a classifier's adapters for peft."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or the folder of a model that it saved, such as RUN/teacher."""
    out: Path
    """Folder to write; new or empty."""
    to: Literal["hf", "timm", "pt2", "onnx", "peft"] = "hf"
    """hf: the whole model, for from_pretrained of VideoMAEModel, VJEPA2ForVideoClassification or
    AutoModelForImageTextToText. timm: an encoder as an image model for timm.create_model. pt2 and onnx: an encoder as
    one file, for torch.export.load or ONNX Runtime. peft: the LoRA adapters and the head of a classifier."""
    overwrite: bool = False
    """Replace an earlier export in the folder."""
    push: str | None = None
    """USER/NAME of a repository on the Hugging Face hub to upload the folder to; made if it is not there."""
    private: bool = False
    """Make a new repository private."""
    source: str | None = None
    """Present place of the model that was fine-tuned, if it was moved."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    config = tyro.cli(ExportConfig, prog="python -m fastvid.export", args=arguments, config=_FLAGS)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    with loading():
        from transformers.utils.logging import disable_progress_bar

        from fastvid.projects.hub import check_push, push
        from fastvid.projects.load import find_saved
        from fastvid.projects.registry import projects

    disable_progress_bar()
    if config.private and config.push is None:
        raise UserError("--private is for --push: name the repository there, or leave it out")
    if config.push is not None:
        check_push(config.push)
    with user_errors(ValueError), naming(config.out):
        project, folder = find_saved(config.run)
        if project.export is None:
            others = " or ".join(other.name for other in projects() if other.export is not None)
            raise UserError(
                f"the run in {config.run} is of {project.name} ({project.summary}), which exports nothing: give one of "
                f"{others}"
            )
        model = resolve_name(project.load)(folder, source=config.source)
        # A saved model that was moved out of its run's directory is exported without the run's results.
        run = project.run_of(folder)
        out = resolve_name(project.export)(model, config.out, config.to, run=run, overwrite=config.overwrite)
    print(f"written to {out}", flush=True)
    if config.push is not None:
        print(f"pushed to {push(out, config.push, private=config.private)}")
    if project.classifies and config.to == "peft" and model.about.approach == "pooler+lora":
        print("the trained pooler is not among peft's weights: --to hf exports all that was trained", file=sys.stderr)
    return 0


_FLAGS = (tyro.conf.FlagCreatePairsOff,)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
