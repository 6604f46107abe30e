"""Small modules over the ops."""

from fastvid.nn.foveated_glimpse import FoveatedGlimpse
from fastvid.nn.init import Init, init_weights
from fastvid.nn.masked_latent_loss import MaskedLatentLoss
from fastvid.nn.patch_embed import VisiblePatchEmbed
from fastvid.nn.positions import sincos_positions
from fastvid.nn.predictor import Predictor
from fastvid.nn.query_pool import QueryPool

__all__ = [
    "CrossBlock",
    "FoveatedGlimpse",
    "Init",
    "MaskedLatentLoss",
    "Predictor",
    "QueryPool",
    "VisiblePatchEmbed",
    "init_weights",
    "sincos_positions",
]
