"""What a frozen model saw, stored: latents on disk, in memory and in a window, and their loaders."""

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "FeatureBatch": "feature_loader",
    "FeatureLoader": "feature_loader",
    "LatentBatch": "loader",
    "LatentCache": "disk_store",
    "LatentLoader": "loader",
    "LatentManifest": "manifest",
    "LatentStore": "feature_loader",
    "LatentWindow": "window",
    "Latents": "file",
    "MemoryLatents": "memory_store",
    "WindowBatch": "window_loader",
    "WindowLoader": "window_loader",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.latents.disk_store import LatentCache as LatentCache
    from fastvid.latents.feature_loader import FeatureBatch as FeatureBatch
    from fastvid.latents.feature_loader import FeatureLoader as FeatureLoader
    from fastvid.latents.feature_loader import LatentStore as LatentStore
    from fastvid.latents.file import Latents as Latents
    from fastvid.latents.loader import LatentBatch as LatentBatch
    from fastvid.latents.loader import LatentLoader as LatentLoader
    from fastvid.latents.manifest import LatentManifest as LatentManifest
    from fastvid.latents.memory_store import MemoryLatents as MemoryLatents
    from fastvid.latents.window import LatentWindow as LatentWindow
    from fastvid.latents.window_loader import WindowBatch as WindowBatch
    from fastvid.latents.window_loader import WindowLoader as WindowLoader


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.latents.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.latents' has no attribute {name!r}")
