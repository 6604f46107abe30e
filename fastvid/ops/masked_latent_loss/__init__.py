from fastvid.ops.masked_latent_loss.op import masked_latent_loss, masked_mse, quantize_tokens

__all__ = ["masked_latent_loss", "masked_mse", "quantize_tokens"]
