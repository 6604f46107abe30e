from fastvid.ops.multiblock_mask.op import multiblock_mask
from fastvid.ops.multiblock_mask.spec import MaskSpec

__all__ = ["MaskSpec", "multiblock_mask"]
