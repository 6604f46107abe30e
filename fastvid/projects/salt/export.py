"""A trained encoder as a folder that other libraries open, without fastvid: transformers, timm, torch or ONNX."""

from collections.abc import Callable
from pathlib import Path

from fastvid.files import write_whole
from fastvid.names import spelled
from fastvid.projects.exported_folder import exported_folder, share_files
from fastvid.projects.salt.export_graph import write_onnx, write_pt2
from fastvid.projects.salt.export_hf import write_hf
from fastvid.projects.salt.export_timm import write_timm
from fastvid.projects.salt.model_card import model_card
from fastvid.projects.salt.trained import TrainedEncoder

_FORMS: dict[str, Callable[[TrainedEncoder, Path], None]] = {
    "hf": write_hf, "timm": write_timm, "pt2": write_pt2, "onnx": write_onnx,
}  # fmt: skip
_FILES = (
    "README.md", "config.json", "model*.safetensors", "model.safetensors.index.json", "preprocessor_config.json",
    "video_preprocessor_config.json", "modeling_video_vit.py", "model.pt2", "model.onnx*",
)  # fmt: skip


def export(
    trained: TrainedEncoder, folder: str | Path, form: str = "hf", *, run: Path | None = None, overwrite: bool = False
) -> Path:
    """Write a folder that other libraries open without fastvid, complete or not at all.

    ``"hf"`` is for ``VideoMAEModel.from_pretrained`` where the encoder's positions are VideoMAE's (``sinusoid``), and
    for ``AutoModel`` with ``trust_remote_code=True`` otherwise: the folder then carries one file of code. Processors
    show the model what the encoder was evaluated on, the centred square of each frame. ``"timm"`` is an image model,
    see :func:`fastvid.projects.salt.export_timm.write_timm`; ``"pt2"`` a program of ``torch.export`` and ``"onnx"`` a
    model for ONNX Runtime, both from uint8 clips to tokens. What is opened is compared with the encoder, in float64
    where the library computes in it, before the folder is given its name.

    Args:
        trained: what to write.
        folder: new or empty.
        form: for whom.
        run: directory of the run, for what the model card says of data, settings and probes.
        overwrite: replace an earlier export in ``folder``.

    Returns:
        ``folder``, absolute.

    Raises:
        ValueError: no such form, a part of the encoder that the other library lacks, or a ``folder`` that is not to be
            written to.
    """
    if form not in _FORMS:
        raise ValueError(f"an encoder is not exported to {form}: use --to hf, timm, pt2 or onnx")
    card = model_card(trained, form, run)
    target = Path(folder).expanduser().resolve()
    with exported_folder(target, _FILES, overwrite) as partial:
        _FORMS[form](trained, partial)
        write_whole(partial / "README.md", spelled(card).encode())
        share_files(partial)
    return target
