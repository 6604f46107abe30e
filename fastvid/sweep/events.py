"""A run's curves as TensorBoard events under the published tags."""

import shutil
from pathlib import Path

from fastvid.sweep.results import CellResult


def write_events(path: Path, result: CellResult) -> None:
    """Write ``Train/Loss`` by optimizer step, ``Val/Accuracy`` by epoch and ``Test/Final_Accuracy`` at the last
    epoch into a folder. It appears complete or not at all, and an existing one stays.
    """
    if path.exists():
        return
    from torch.utils.tensorboard import SummaryWriter

    found = result.found
    partial = path.with_name(f".{path.name}.part")
    shutil.rmtree(partial, ignore_errors=True)  # of a sweep that was killed
    writer = SummaryWriter(str(partial))
    curves = found["curves"]
    steps, losses = result.losses if result.losses[0] else (curves["step"], curves["train_loss"])
    for step, loss in zip(steps, losses, strict=True):
        if loss is not None:
            writer.add_scalar("Train/Loss", loss, step)
    for epoch, accuracy in zip(result.epochs, curves["val_accuracy"], strict=True):
        writer.add_scalar("Val/Accuracy", accuracy, epoch)
    writer.add_scalar("Test/Final_Accuracy", found["test"]["accuracy"], result.epochs[-1])
    writer.close()
    partial.rename(path)
