from fastvid.ops.gather_tubelets.op import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "gather_tubelets"]
