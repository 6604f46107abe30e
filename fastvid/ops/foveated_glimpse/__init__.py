from fastvid.ops.foveated_glimpse.op import foveated_glimpse

__all__ = ["foveated_glimpse"]
