"""Files that say what retrieval looks for: videos that belong together, and embeddings of captions."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from fastvid.data.labels.table import read_label_table, rows_by_key
from fastvid.data.source import Source
from fastvid.eval.suite import Relations


def read_relations(source: Source, root: Path, pairs: Path | None, captions: Path | None) -> Relations:
    """Read what retrieval looks for.

    Args:
        source: the videos.
        root: their folder, for paths in the table.
        pairs: table of paths and ids, or None.
        captions: embeddings, see :func:`read_captions`, or None.

    Raises:
        ValueError, FileNotFoundError: a file cannot be used.
    """
    groups = None
    if pairs is not None:
        rows, _ = rows_by_key(read_label_table(pairs), root, [sample.key for sample in source.samples])
        groups = {key: row.label for key, row in rows.items() if row.label is not None}
    return Relations(groups, None if captions is None else read_captions(captions))


def read_captions(path: Path) -> dict[str, torch.Tensor]:
    """Read embeddings of captions, float32 [E] by the video's key.

    Args:
        path: an .npz file with ``keys``, text [n], and ``features``, float [n, E], as ``python -m fastvid.encode``
            names them; other arrays in it are not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds anything else, or a video twice.
    """
    wanted = "an .npz file with the arrays keys, text [n], and features, float [n, E], is expected"
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, features = file["keys"], file["features"]
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except (ValueError, KeyError, OSError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {wanted} ({error})") from error
    if keys.ndim != 1 or keys.dtype.kind != "U" or features.ndim != 2 or len(keys) != len(features):
        raise ValueError(f"{path} has keys {keys.dtype} {keys.shape} and features {features.shape}: {wanted}")
    if features.dtype.kind != "f" or not np.isfinite(features).all():
        raise ValueError(f"{path}: features are to be finite floating-point numbers; they are {features.dtype}")
    names, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path} has {str(names[counts > 1][0])!r} more than once: give each video one caption")
    return dict(zip(keys.tolist(), torch.from_numpy(features.astype(np.float32)), strict=True))
