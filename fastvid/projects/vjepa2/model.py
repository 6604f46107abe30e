"""transformers' V-JEPA 2 video classifier (arXiv 2506.09985) on uint8 clips, in two halves: features, then logits."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import VJEPA2ForVideoClassification

from fastvid.files import write_whole
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets


class VJepa2Classifier(nn.Module):
    """A ``VJEPA2ForVideoClassification`` whose pixels are normalised, cut and embedded by fastvid.

    The wrapped module stays as it is: its Conv3d weight is read in place, so that its state dict and what it saves are
    the original's. Its unused predictor is kept for the same reason.

    What trains is set by :func:`fastvid.projects.vjepa2.approach.apply_approach`; without it, everything does.

    Args:
        model: the classifier, with or without weights.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].

    Attributes:
        model: ``model``; with LoRA, the ``PeftModel`` around it.
        grid: (T, H, W) tokens of a clip; N is their product.
        dim: width D of a token.
        approach: which parts train; None before an approach is applied.
        trained: the modules that follow :meth:`train`; all others stay in eval mode.
        checkpointing: recompute each trained layer in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        model: VJEPA2ForVideoClassification,
        *,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        super().__init__()
        config: Any = model.config
        side = config.crop_size // config.patch_size
        self.grid = (config.frames_per_clip // config.tubelet_size, side, side)
        self.dim: int = config.hidden_size
        self.mean, self.std = mean, std
        self.model: Any = model
        self.approach: str | None = None
        self.trained: tuple[nn.Module, ...] = (model,)
        self.checkpointing = False

    @property
    def hf(self) -> Any:
        """Return the ``VJEPA2ForVideoClassification`` itself, without wrappers."""
        return self.model.get_base_model() if self.adapted else self.model

    @property
    def adapted(self) -> bool:
        """Return whether ``model`` is peft's."""
        return not isinstance(self.model, VJEPA2ForVideoClassification)

    @property
    def backbone_trains(self) -> bool:
        """Return whether any parameter of the encoder, adapters included, has gradients."""
        return any(parameter.requires_grad for parameter in self.hf.vjepa2.encoder.parameters())

    @property
    def pooler_trains(self) -> bool:
        """Return whether any parameter of the pooler, adapters included, has gradients."""
        return any(parameter.requires_grad for parameter in self.hf.pooler.parameters())

    def train(self, mode: bool = True) -> "VJepa2Classifier":
        """Set the mode; frozen modules stay in eval mode, so that their dropout and stochastic depth are never
        active.
        """
        super().train(False)
        self.training = mode
        for module in self.trained:
            module.train(mode)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits [B, classes], from clips or from features of any stage.

        Args:
            x: a clip, uint8 [B, T, H, W, 3]; :meth:`features`, [B, N, D]; or what :meth:`pool` makes of them, [B, D].
        """
        if x.dtype == torch.uint8:
            x = self.features(x)
        return self.classify(x) if x.ndim == 3 else self.hf.classifier(x)

    @torch.no_grad()
    def frozen_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Compute the output of the frozen parts on clips uint8 [B, T, H, W, 3], which never changes and can be kept.

        Returns:
            :meth:`features` [B, N, D]; [B, 1, D] of :meth:`pool` where the pooler is frozen too.

        Raises:
            ValueError: the encoder trains.
        """
        if self.backbone_trains:
            raise ValueError(f"with {self.approach!r} the encoder trains: its features change with every step")
        features = self.features(clip)
        return features if self.pooler_trains else self.pool(features).unsqueeze(1)

    def features(self, clip: torch.Tensor) -> torch.Tensor:
        """Compute the encoder's tokens: clip uint8 [B, T, H, W, 3] to [B, N, D].

        A frozen encoder keeps no graph.

        Raises:
            ValueError: the clip has another length or size than the model's.
        """
        config = self.hf.config
        wanted = (config.frames_per_clip, config.crop_size, config.crop_size, 3)
        if clip.shape[1:] != wanted:
            raise ValueError(f"this model takes clips [B, {', '.join(map(str, wanted))}]; got {list(clip.shape)}")
        encoder, trains = self.hf.vjepa2.encoder, self.backbone_trains
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            x = self._embed(clip)
            for layer in encoder.layer:
                x = self._run(layer, x, checkpointed=trains)
            tokens: torch.Tensor = encoder.layernorm(x)
            return tokens

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the attentive pooler and the head: features [B, N, D] to logits [B, classes]."""
        logits: torch.Tensor = self.hf.classifier(self.pool(features))
        return logits

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """Apply self-attention over all tokens, then one query's cross-attention: features [B, N, D] to [B, D]."""
        pooler = self.hf.pooler
        for layer in pooler.self_attention_layers:
            features = self._run(layer, features, None, checkpointed=True)
        queries = pooler.query_tokens.expand(len(features), -1, -1)
        return self._run(pooler.cross_attention_layer, queries, features, checkpointed=True).squeeze(1)

    def save_adapter(self, folder: str | Path) -> None:
        """Write the LoRA weights and the head in peft's format; each file appears complete or not at all.

        ``PeftModel.from_pretrained(model, folder)`` reads them, given the original model with as many classes. With
        ``pooler+lora`` the trained pooler is not among them: :meth:`merged` has everything.

        Raises:
            ValueError: the approach has no adapters.
        """
        if not self.adapted:
            raise ValueError(f"the approach {self.approach!r} has no LoRA adapters to save")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adapter-", dir=folder) as partial:
            self.model.save_pretrained(partial)
            for file in Path(partial).iterdir():
                write_whole(folder / file.name, file.read_bytes())

    def merged(self) -> VJEPA2ForVideoClassification:
        """Return a copy as the plain transformers module, with the adapters merged into the weights."""
        model = copy.deepcopy(self.model)
        return model.merge_and_unload() if self.adapted else model

    def _embed(self, clip: torch.Tensor) -> torch.Tensor:
        conv = self.hf.vjepa2.encoder.embeddings.patch_embeddings.proj
        # Under autocast the product runs in the autocast dtype: the pixels are written in it at once.
        device = clip.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else conv.weight.dtype
        tubelet, patch, _ = conv.kernel_size
        pixels = gather_tubelets(clip, tubelet=tubelet, patch=patch, mean=self.mean, std=self.std, dtype=dtype)
        return F.linear(pixels, conv.weight.flatten(1), conv.bias)

    def _run(self, layer: nn.Module, *inputs: torch.Tensor | None, checkpointed: bool) -> torch.Tensor:
        """Run one transformers layer, which returns a tuple that begins with the hidden states."""
        if checkpointed and self.checkpointing and self.training and torch.is_grad_enabled():
            output: tuple[torch.Tensor, ...] = checkpoint(layer, *inputs, use_reentrant=False)
        else:
            output = layer(*inputs)
        return output[0]
