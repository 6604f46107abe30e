from fastvid.ops.gather_tokens.op import gather_tokens

__all__ = ["gather_tokens"]
