from fastvid.ops.masked_latent_loss.op import masked_latent_loss, masked_mse

__all__ = ["masked_latent_loss", "masked_mse"]
