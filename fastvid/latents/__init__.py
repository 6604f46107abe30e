"""Latents, which are what a frozen model saw: on disk, in memory and in a window, and their loaders."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names

_HOMES = {
    "LatentCache": "stores",
    "LatentLoader": "loader",
    "LatentManifest": "manifest",
    "LatentStore": "stores",
    "LatentWindow": "window",
    "MemoryLatents": "stores",
    "VideoFeatures": "video_features",
    "read_features": "feature_files",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.latents.feature_files import read_features as read_features
    from fastvid.latents.loader import LatentLoader as LatentLoader
    from fastvid.latents.manifest import LatentManifest as LatentManifest
    from fastvid.latents.stores import LatentCache as LatentCache
    from fastvid.latents.stores import LatentStore as LatentStore
    from fastvid.latents.stores import MemoryLatents as MemoryLatents
    from fastvid.latents.video_features import VideoFeatures as VideoFeatures
    from fastvid.latents.window import LatentWindow as LatentWindow

__getattr__ = lazy_names(__name__, _HOMES)
