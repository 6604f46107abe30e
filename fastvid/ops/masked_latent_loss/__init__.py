from fastvid.ops.masked_latent_loss.op import KINDS, Kind, masked_latent_loss, masked_mse, quantize_tokens

__all__ = ["KINDS", "Kind", "masked_latent_loss", "masked_mse", "quantize_tokens"]
