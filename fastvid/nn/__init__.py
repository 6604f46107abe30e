"""Small modules over the ops."""

from fastvid.nn.patch_embed import VisiblePatchEmbed
from fastvid.nn.positions import sincos_positions
from fastvid.nn.predictor import Predictor

__all__ = ["Predictor", "VisiblePatchEmbed", "sincos_positions"]
