"""What of a V-JEPA 2 classifier trains, what stays as it was, and adapters as files."""

import json
from typing import get_args

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.vjepa2.approach import Approach, LoraSettings, apply_approach, parameter_counts
from fastvid.projects.vjepa2.load import load_vjepa2
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.projects.vjepa2.published import PUBLISHED_NAMES

APPROACHES = ["head", "pooler", "lora", "pooler+lora", "backbone-lora", "full"]
FROZEN_BACKBONE = APPROACHES[:4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(1)
    config = VJEPA2Config(
        crop_size=32, frames_per_clip=4, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2, initializer_range=0.1,
        attention_probs_dropout_prob=0.5, attention_dropout=0.5, drop_path_rate=0.5, num_labels=7,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("vjepa2")
    VJEPA2ForVideoClassification(config).save_pretrained(path)
    return path


@pytest.fixture
def clip():
    return torch.randint(256, (3, 4, 32, 32, 3), dtype=torch.uint8)


def prepared(folder, approach, **lora):
    """A model whose adapters already do something."""
    model = load_vjepa2(str(folder), classes=4)
    apply_approach(model, approach, LoraSettings(**{"rank": 4, "alpha": 8, **lora}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    return model


@pytest.mark.parametrize(
    ("approach", "trainable", "total"),
    [
        ("head", 4_100, 375_311_748),
        ("pooler", 49_340_420, 375_311_748),
        ("lora", 495_620, 375_803_268),
        ("pooler+lora", 49_831_940, 375_803_268),
        ("backbone-lora", 4_100 + 24 * 4 * 2 * 16 * 1024, 375_311_748 + 24 * 4 * 2 * 16 * 1024),
        ("full", 375_311_748 - 22_086_016, 375_311_748),
    ],
)
def test_parameters_of_the_large_model(approach, trainable, total):
    with torch.device("meta"):
        model = VJepa2Classifier(VJEPA2ForVideoClassification(VJEPA2Config(frames_per_clip=16, num_labels=4)))
    apply_approach(model, approach)
    assert parameter_counts(model) == (trainable, total)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    adapters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    modules = {name.partition(".lora_")[0].partition("base_model.model.")[2] for name in adapters}
    size = sum(p.numel() for p in adapters.values())
    if "lora" not in approach:
        assert size == 0
    elif approach == "backbone-lora":
        names = {f"{i}.attention.{name}" for i in range(24) for name in ("query", "key", "value", "proj")}
        assert modules == {f"vjepa2.encoder.layer.{name}" for name in names}
    else:
        assert (len(modules), size) == (15, 491_520)
        cross = {f"cross_attention_layer.cross_attn.{n}_proj" for n in ("q", "k", "v")}
        own = {f"self_attention_layers.{i}.self_attn.{n}_proj" for i in range(3) for n in ("q", "k", "v", "out")}
        assert modules == {f"pooler.{name}" for name in cross | own}


@pytest.mark.parametrize("approach", APPROACHES)
def test_only_what_trains_gets_gradients_and_moves(folder, clip, approach):
    model = prepared(folder, approach).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(20):  # stochastic depth skips layers
        model(clip).square().sum().backward()
    optimizer.step()
    prefixes = {
        "head": ("classifier.",), "pooler": ("classifier.", "pooler."), "lora": ("classifier.", "lora:pooler."),
        "pooler+lora": ("classifier.", "pooler.", "lora:pooler."),
        "backbone-lora": ("classifier.", "lora:vjepa2.encoder."),
        "full": ("classifier.", "pooler.", "vjepa2.encoder."),
    }[approach]  # fmt: skip
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("model.").removeprefix("base_model.model.")
        part = f"lora:{plain}" if ".lora_" in plain else plain
        trains = part.startswith(prefixes) and ".original_module." not in name
        assert parameter.requires_grad == trains, name
        assert (parameter.grad is not None) == trains, name
        assert torch.equal(parameter, before[name]) == (not trains), name


@pytest.mark.parametrize("approach", FROZEN_BACKBONE)
def test_a_frozen_backbone_keeps_no_graph(folder, clip, approach):
    model = prepared(folder, approach).train()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x), x)[1], lambda x: x):
        features = model.features(clip)
        assert kept == []
        logits = model.classify(features)
    assert not features.requires_grad
    assert logits.requires_grad
    assert kept != []


@pytest.mark.parametrize("approach", ["backbone-lora", "full"])
def test_a_trained_backbone_keeps_one(folder, clip, approach):
    model = prepared(folder, approach).train()
    assert model.features(clip).requires_grad
    with torch.no_grad():
        assert not model.features(clip).requires_grad


@pytest.mark.parametrize("approach", APPROACHES)
def test_features_then_logits_is_the_whole(folder, clip, approach):
    model = prepared(folder, approach).eval()
    assert torch.equal(model.classify(model.features(clip)), model(clip))
    model.train()
    torch.manual_seed(3)
    halves = model.classify(model.features(clip))
    torch.manual_seed(3)
    assert torch.equal(halves, model(clip))


@pytest.mark.parametrize("approach", APPROACHES)
def test_frozen_modules_stay_in_eval_mode(folder, approach):
    model = prepared(folder, approach)
    wrapper = nn.Sequential(model)
    wrapper.eval()
    assert not any(module.training for module in model.modules())
    wrapper.train()
    assert model.training
    training = {name.removeprefix("model.").removeprefix("base_model.model.") for name, m in model.named_modules()
                if m.training and m is not model}  # fmt: skip
    parts = {
        "head": ("classifier",), "pooler": ("classifier", "pooler"), "lora": ("classifier", "lora:pooler"),
        "pooler+lora": ("classifier", "pooler"), "backbone-lora": ("classifier", "lora:vjepa2.encoder"),
        "full": ("classifier", "pooler", "vjepa2.encoder"),
    }[approach]  # fmt: skip
    for name, _ in model.hf.named_modules():
        expected = name.startswith(parts) or (".lora_" in name and f"lora:{name}".startswith(parts))
        # peft's empty containers for adapters of embeddings and of other kinds are nothing that could be active
        assert (name in training) == expected or ".lora_embedding" in name or ".lora_magnitude" in name, name


def test_dropout_is_active_where_it_trains_and_nowhere_else(folder, clip):
    def changes(model, of):
        model.train()
        trained = of(clip)
        assert not model.eval().training
        return not torch.allclose(trained, of(clip))

    head = prepared(folder, "head")
    assert not changes(head, head)
    pooler = prepared(folder, "pooler")
    assert changes(pooler, pooler)
    assert not changes(pooler, pooler.features)
    still, lora = (prepared(folder, "lora", dropout=dropout) for dropout in (0.0, 0.5))
    assert not changes(still, still)  # the attention's own dropout is frozen with it
    assert changes(lora, lora)
    assert not changes(lora, lora.features)
    full = prepared(folder, "full")
    assert changes(full, full.features)


@pytest.mark.parametrize(("approach", "encoder_runs"), [("lora", 1), ("backbone-lora", 2), ("full", 2)])
def test_checkpointing_runs_trained_layers_twice_and_changes_no_gradient(folder, clip, approach, encoder_runs):
    model = prepared(folder, approach).train()
    runs = {"encoder": 0, "pooler": 0}

    def count(part):
        runs[part] += 1

    model.hf.vjepa2.encoder.layer[1].register_forward_pre_hook(lambda *_: count("encoder"))
    model.hf.pooler.cross_attention_layer.register_forward_pre_hook(lambda *_: count("pooler"))
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        torch.manual_seed(3)  # the same dropout
        model(clip).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert runs == {"encoder": 1 + encoder_runs, "pooler": 3}
    assert any(gradient.any() for gradient in gradients[0])
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)
    model.eval()(clip)
    assert runs == {"encoder": 2 + encoder_runs, "pooler": 4}


@pytest.mark.parametrize("approach", ["lora", "backbone-lora"])
def test_peft_alone_loads_a_saved_adapter(folder, clip, tmp_path, approach):
    model = prepared(folder, approach).eval()
    model.save_adapter(tmp_path / "adapter")
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors"
    ]  # fmt: skip
    assert "fastvid" not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(w.numel() for w in weights.values()) == parameter_counts(model)[0]

    base = VJEPA2ForVideoClassification.from_pretrained(folder, num_labels=4, ignore_mismatched_sizes=True)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    pixels = (clip / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    with torch.no_grad():
        logits = loaded(pixel_values_videos=pixels.movedim(-1, -3)).logits
        torch.testing.assert_close(logits, model(clip), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(model(clip), prepared(folder, approach)(clip), atol=1e-3)


@pytest.mark.parametrize("approach", ["head", "lora", "pooler+lora"])
def test_merged_is_the_plain_module(folder, clip, tmp_path, approach):
    model = prepared(folder, approach).eval()
    names = VJEPA2ForVideoClassification.from_pretrained(folder).state_dict().keys()
    merged = model.merged()
    assert merged.state_dict().keys() == names
    merged.save_pretrained(tmp_path)
    again = load_vjepa2(str(tmp_path), classes=4).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(clip), model(clip), rtol=1e-4, atol=1e-5)
    merged.requires_grad_(False).classifier.weight.zero_()
    assert model.hf.classifier.weight.any()  # a copy


def test_rank_alpha_and_dropout_reach_the_adapters(folder, tmp_path):
    model = load_vjepa2(str(folder), classes=4)
    apply_approach(model, "lora", LoraSettings(rank=3, alpha=12, dropout=0.25))
    layer = model.hf.pooler.cross_attention_layer.cross_attn.q_proj
    assert layer.lora_A["default"].weight.shape == (3, 48)
    assert layer.scaling["default"] == 4
    assert layer.lora_dropout["default"].p == 0.25
    model.save_adapter(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"]) == (3, 12, 0.25)
    assert saved["base_model_name_or_path"] == str(folder)


@pytest.mark.parametrize("approach", ["lora", "pooler+lora"])
def test_a_fresh_adapter_changes_nothing(folder, clip, approach):
    model = load_vjepa2(str(folder), classes=7).eval()
    with torch.no_grad():
        before = model(clip)
        apply_approach(model, approach)
        assert not model.training
        # but for rounding, which is seen with torch 2.11
        torch.testing.assert_close(model(clip), before, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_done_says_why(folder, tmp_path):
    model = load_vjepa2(str(folder), classes=4)
    with pytest.raises(ValueError, match=r"unknown approach 'heads': use head, pooler, lora, pooler\+lora, backbone"):
        apply_approach(model, "heads")
    apply_approach(model, "head")
    with pytest.raises(ValueError, match=r"'head'.*'lora'"):
        apply_approach(model, "lora")
    with pytest.raises(ValueError, match="'head' has no LoRA adapters"):
        model.save_adapter(tmp_path)
    for wrong in ({"rank": 0}, {"alpha": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=r"LoRA needs rank >= 1, alpha > 0 and dropout in \[0, 1\)"):
            LoraSettings(**wrong)
    other = load_vjepa2(str(folder), classes=4)
    other.hf.config.num_pooler_layers = 2
    with pytest.raises(RuntimeError, match=r"15 .* 11"):
        apply_approach(other, "lora")


def test_the_sweep_knows_the_same_approaches():
    assert set(PUBLISHED_NAMES) == set(get_args(Approach)) == set(APPROACHES)
