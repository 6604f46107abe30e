"""Small modules over the ops."""

from fastvid.nn.cross_block import CrossBlock
from fastvid.nn.init import Init, init_weights
from fastvid.nn.patch_embed import VisiblePatchEmbed
from fastvid.nn.positions import sincos_positions
from fastvid.nn.predictor import Predictor

__all__ = ["CrossBlock", "Init", "Predictor", "VisiblePatchEmbed", "init_weights", "sincos_positions"]
