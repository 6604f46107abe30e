"""The approaches that are compared, by what part of a V-JEPA 2 classifier they train."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from torch import nn

from fastvid.ranges import Count, Positive, Range

if TYPE_CHECKING:  # transformers takes seconds, and the options of a run are read without it
    from fastvid.projects.vjepa2.model import VJepa2Classifier

Approach = Literal["head", "pooler", "lora", "pooler+lora", "backbone-lora", "full"]

# Regular expressions over whole module names, as peft reads them. The predictor has attention of the encoder's kind.
_POOLER = r"pooler\..+\.(q_proj|k_proj|v_proj|out_proj)"
_ENCODER = r"vjepa2\.encoder\.layer\.\d+\.attention\.(query|key|value|proj)"


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (arXiv 2106.09685): ``W x + alpha / rank * B A dropout(x)``, A drawn and B zero at first.

    Attributes:
        rank: of an adapter, at least 1.
        alpha: numerator of its scale, above 0.
        dropout: probability of an input feature's being dropped, in [0, 1).
    """

    rank: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.1

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"LoRA needs rank >= 1, alpha > 0 and dropout in [0, 1); got rank {self.rank}, alpha {self.alpha} and "
                f"dropout {self.dropout}"
            )


def apply_approach(model: "VJepa2Classifier", approach: str, lora: LoraSettings = LoraSettings()) -> None:
    """Freeze, in place, all that the approach does not train, and add its adapters.

    ==================  ===========================================================  ======================
    approach            trains                                                       ViT-L, 4 classes
    ==================  ===========================================================  ======================
    ``head``            the linear head                                              4,100
    ``pooler``          the attentive pooler and the head                            49,340,420
    ``lora``            adapters of the pooler's projections (query, key, value and  495,620
                        output of each self-attention; query, key and value of the
                        cross-attention, which has no output) and the head
    ``pooler+lora``     the pooler, the adapters in it and the head                  49,831,940
    ``backbone-lora``   adapters of the encoder's projections (query, key, value     3,149,828
                        and ``proj`` of each layer) and the head; the pooler, which
                        gradients pass through, is frozen
    ``full``            encoder, pooler and head; not the predictor, which a         353,225,732
                        classifier does not use
    ==================  ===========================================================  ======================

    Args:
        model: a classifier without an approach.
        approach: which parts train: one of :data:`Approach`.
        lora: of the adapters, where there are any.

    Raises:
        ValueError: an unknown approach, or the model already has one.
        RuntimeError: not as many projections as the configuration says, as in an unknown version of transformers.
    """
    if approach not in get_args(Approach):
        raise ValueError(f"unknown approach {approach!r}: use {', '.join(get_args(Approach))}")
    if model.approach is not None:
        raise ValueError(f"this model already has the approach {model.approach!r}: load it anew for {approach!r}")
    hf, config = model.hf, model.hf.config
    model.requires_grad_(False)
    if approach == "backbone-lora":
        _adapt(model, lora, _ENCODER, 4 * config.num_hidden_layers)
    elif approach in ("lora", "pooler+lora"):
        _adapt(model, lora, _POOLER, 4 * config.num_pooler_layers + 3)
    else:
        hf.classifier.requires_grad_(True)
    if approach in ("pooler", "pooler+lora", "full"):
        hf.pooler.requires_grad_(True)
    if approach == "full":
        hf.vjepa2.encoder.requires_grad_(True)
    model.approach, model.trained = approach, _trained_modules(hf, approach)
    model.train(model.training)


def parameter_counts(model: "VJepa2Classifier") -> tuple[int, int]:
    """Return (trainable, all) parameters; peft's untouched copy of the head, which nothing uses, is not counted."""
    parameters = [p for name, p in model.named_parameters() if ".original_module." not in name]
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def _adapt(model: "VJepa2Classifier", lora: LoraSettings, names: str, expected: int) -> None:
    """Add adapters; peft makes them and the head trainable."""
    from peft import LoraConfig, get_peft_model  # seconds that only those pay who have adapters

    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names,
        modules_to_save=["classifier"],
    )  # fmt: skip
    with warnings.catch_warnings():  # peft reads what transformers is about to rename
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        model.model = get_peft_model(model.hf, config)
    found = len(_adapters(model))
    if found != expected:
        raise RuntimeError(f"{found} projections got an adapter instead of {expected}: this transformers names others")


def _trained_modules(hf: Any, approach: str) -> tuple[nn.Module, ...]:
    if approach == "full":
        return hf.vjepa2.encoder, hf.pooler, hf.classifier
    if approach in ("pooler", "pooler+lora"):
        return hf.pooler, hf.classifier
    # Of an adapted projection only the adapter's parts: what is adapted, and what is around it, stay in eval mode.
    parts = [part for layer in _adapters(hf) for part in (layer.lora_A, layer.lora_B, layer.lora_dropout)]
    return (*parts, hf.classifier)


def _adapters(model: nn.Module) -> list[Any]:
    """Return the projections that have an adapter."""
    return [module for module in model.modules() if hasattr(module, "lora_A")]
