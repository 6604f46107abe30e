"""Pictures of a SALT run: what was hidden, what the pixel stage paints, what the student tells apart."""

import torch

from fastvid.data import Quarantine
from fastvid.models.vit import VideoViT
from fastvid.ops import gather_tubelets
from fastvid.projects.salt.data import SaltData, first_batch
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.report.pictures import feature_colours, film_strips, hide
from fastvid.train.session import Session

_CLIPS = 4
_DRAW = 2**28 + 1  # masks that no training step uses


def mask_pictures(session: Session, data: SaltData, loss: StageLoss, name: str, quarantine: Quarantine) -> None:
    """Save clips beside the parts that the encoder sees, a row for each mask of a step."""
    clips, ids = _examples(data, quarantine)
    rows = []
    masks = loss.masks(ids, _DRAW)
    for i in range(min(2, len(clips))):
        clip = clips[i].numpy()
        rows.append(clip)
        rows += [hide(clip, visible[i].numpy(), loss.masks.grid) for visible, _ in masks]
    film_strips(rows, session.path / "pictures" / f"{name}.png")


@torch.no_grad()
def painted_pictures(
    session: Session, data: SaltData, module: MaskedPrediction, loss: StageLoss, quarantine: Quarantine
) -> None:
    """Save clips, the parts that the pixel stage saw, and its predictions of the masked parts."""
    clips, ids = _examples(data, quarantine)
    device = next(module.parameters()).device
    embed, grid = module.encoder.patch_embed, module.encoder.grid
    module.eval()
    tokens = grid[0] * grid[1] * grid[2]
    visible = loss.masks.whole(ids, _DRAW)[0]
    every = torch.arange(tokens)
    hidden = torch.stack([every[~torch.isin(every, row)] for row in visible])
    (pred,) = module(clips.to(device), [(visible.to(device), hidden.to(device))])
    pred = pred[:, : hidden.shape[1]].float().cpu()
    side, deep = embed.patch, embed.tubelet
    if loss.config.normalize_target:  # predicted was each tubelet without its mean and deviation: give them back (MAE)
        true = gather_tubelets(clips, hidden, tubelet=deep, patch=side, mean=embed.mean, std=embed.std)
        pred = pred * (true.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() + true.mean(-1, keepdim=True)
    mean, std = torch.tensor(embed.mean).view(3, 1, 1, 1), torch.tensor(embed.std).view(3, 1, 1, 1)
    pixels = pred.unflatten(2, (3, deep, side, side)) * std + mean
    pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 5, 2)  # [B, M, t, p, p, 3]
    painted = clips.clone()
    blocks = painted.unflatten(3, (grid[2], side)).unflatten(2, (grid[1], side)).unflatten(1, (grid[0], deep))
    for b, row in enumerate(hidden):
        t, h, w = row // (grid[1] * grid[2]), row // grid[2] % grid[1], row % grid[2]
        blocks[b, t, :, h, :, w] = pixels[b]
    rows = []
    for i in range(min(3, len(clips))):
        rows += [clips[i].numpy(), hide(clips[i].numpy(), visible[i].numpy(), grid), painted[i].numpy()]
    film_strips(rows, session.path / "pictures" / "painted-by-the-pixel-stage.png")


@torch.no_grad()
def feature_pictures(session: Session, data: SaltData, student: VideoViT, quarantine: Quarantine) -> None:
    """Save clips beside the leading principal components of the student's tokens, as colours."""
    clips, _ = _examples(data, quarantine)
    device = next(student.parameters()).device
    tokens = student.eval()(clips.to(device)).cpu()
    colours = feature_colours(tokens, student.grid, tuple(clips.shape[1:]))
    rows = [row for clip, colour in zip(clips.numpy(), colours, strict=True) for row in (clip, colour)]
    film_strips(rows, session.path / "pictures" / "student-features.png")


def _examples(data: SaltData, quarantine: Quarantine) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a few clips uint8 [B, T, H, W, 3] and their sample ids; of videos that were not trained on, if there are
    any."""
    source = data.test or data.train
    batch = first_batch(source, range(len(source.samples)), data.views, _CLIPS, quarantine)
    assert batch.clips is not None
    return batch.clips, batch.ids
