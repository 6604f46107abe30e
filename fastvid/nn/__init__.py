"""Small modules over the ops. A name is imported when it is first used, so that a configuration loads no module."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names

_HOMES = {
    "CrossBlock": "cross_block",
    "FoveatedGlimpse": "foveated_glimpse",
    "GlimpseConfig": "foveated_glimpse",
    "Init": "init",
    "LayerFusion": "layer_fusion",
    "MaskedLatentLoss": "masked_latent_loss",
    "Predictor": "predictor",
    "PredictorConfig": "predictor_config",
    "QueryPool": "query_pool",
    "VisiblePatchEmbed": "patch_embed",
    "init_weights": "init",
    "sincos_positions": "positions",
    "sinusoid_positions": "positions",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.nn.cross_block import CrossBlock as CrossBlock
    from fastvid.nn.foveated_glimpse import FoveatedGlimpse as FoveatedGlimpse
    from fastvid.nn.foveated_glimpse import GlimpseConfig as GlimpseConfig
    from fastvid.nn.init import Init as Init
    from fastvid.nn.init import init_weights as init_weights
    from fastvid.nn.layer_fusion import LayerFusion as LayerFusion
    from fastvid.nn.masked_latent_loss import MaskedLatentLoss as MaskedLatentLoss
    from fastvid.nn.patch_embed import VisiblePatchEmbed as VisiblePatchEmbed
    from fastvid.nn.positions import sincos_positions as sincos_positions
    from fastvid.nn.positions import sinusoid_positions as sinusoid_positions
    from fastvid.nn.predictor import Predictor as Predictor
    from fastvid.nn.predictor_config import PredictorConfig as PredictorConfig
    from fastvid.nn.query_pool import QueryPool as QueryPool

__getattr__ = lazy_names(__name__, _HOMES)
