"""Files of a pretraining run: the student encoder, and beside it the predictor that it was trained with."""

from pathlib import Path

from safetensors.torch import save

from fastvid.eval.encoders import clips_of_run
from fastvid.files import write_whole
from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.pretrained import Parts, load_tensors
from fastvid.models.weight_files import find_weights
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.projects.salt.trained import TrainedEncoder

_PREDICTOR = "predictor.safetensors"


def load(folder: Path, *, source: str | None = None) -> TrainedEncoder:
    """Load an encoder, in eval mode, on the CPU.

    Args:
        folder: with ``encoder.json``; in a run's directory, frames are chosen as the run chose them.
        source: must be None: an encoder is saved whole.

    Raises:
        ValueError: damaged files, or a ``source``.
    """
    if source is not None:
        raise ValueError("an encoder is saved whole: it has no other model as its source")
    encoder = load_encoder(folder)
    name = "teacher" if folder.name == "teacher" else "student"
    return TrainedEncoder(encoder, clips_of_run(folder, encoder), name)


def save_predictor(module: MaskedPrediction, folder: Path) -> None:
    """Write all of the trained module but the encoder, which no encoder needs and a measure of surprise does."""
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in module.state_dict().items()
        if not name.startswith("encoder.")
    }
    write_whole(folder / _PREDICTOR, save(weights))


def load_predictor(module: MaskedPrediction, folder: Path) -> None:
    """Read what :func:`save_predictor` wrote into a module of the same configuration; its encoder stays as it is.

    Raises:
        FileNotFoundError: there is no predictor.
        ValueError: it is damaged, or does not fit.
    """
    if not (folder / _PREDICTOR).is_file():
        raise FileNotFoundError(
            f"there is no {_PREDICTOR} in {folder}: the run is not finished, or was trained before predictors were "
            f"kept; `python -m fastvid.train salt --resume {folder.parent}` writes it from the last checkpoint"
        )
    weights = find_weights(str(folder / _PREDICTOR))
    load_tensors(module, weights.read(), weights.source, Parts(may_lack=("encoder.",)))
