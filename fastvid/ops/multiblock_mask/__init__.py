from fastvid.ops.multiblock_mask.distance import mask_distance
from fastvid.ops.multiblock_mask.op import multiblock_mask
from fastvid.ops.multiblock_mask.spec import MaskSpec

__all__ = ["MaskSpec", "mask_distance", "multiblock_mask"]
