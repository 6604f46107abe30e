"""Pretrained models of every kind: all tensors are loaded, or one sentence names those at fault."""

import json
import logging
import shutil
import socket

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
)

from fastvid.models import VideoViT, VideoViTConfig, load_encoder, load_teacher, save_encoder, weight_files
from fastvid.models.fingerprint import weights_hash
from fastvid.models.pixel_statistics import pixel_statistics
from fastvid.models.pretrained import Parts, load_pretrained, load_timm
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.vjepa2.load import load_vjepa2

VJEPA2 = VJEPA2Config(
    crop_size=32, frames_per_clip=4, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, pred_hidden_size=24,
    pred_num_hidden_layers=1, pred_num_attention_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The same model in two forms, without and with a head."""
    folder = tmp_path_factory.mktemp("originals")
    VJEPA2Model(VJEPA2).save_pretrained(folder / "encoder")
    VJEPA2ForVideoClassification(VJEPA2).save_pretrained(folder / "classifier")
    return folder


@pytest.fixture
def encoder(originals, tmp_path):
    return shutil.copytree(originals / "encoder", tmp_path / "model")


def clips(batch=2, frames=4, size=32):
    return torch.randint(256, (batch, frames, size, size, 3), dtype=torch.uint8)


def rewrite(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def teacher(folder):
    return load_teacher(f"hf:{folder}", frames=4, size=32)


WRONG = {
    "a missing layer": (
        lambda w: {n: t for n, t in w.items() if ".layer.1." not in n or "predictor" in n},
        r"16 missing \(encoder\.layer\.1\.attention\.key\.bias, [^,]+, [^,]+, \.\.\.\)",
    ),
    "one missing tensor": (
        lambda w: {n: t for n, t in w.items() if n != "encoder.layernorm.weight"},
        r"1 missing \(encoder\.layernorm\.weight\); its files do not belong together",
    ),
    "half a predictor": (
        lambda w: {n: t for n, t in w.items() if n != "predictor.proj.bias"},
        r"1 missing \(predictor\.proj\.bias\)",
    ),
    "another layer": (
        lambda w: {**w, "encoder.layer.2.norm1.weight": torch.ones(48)},
        r"1 that the model does not have \(encoder\.layer\.2\.norm1\.weight\)",
    ),
    "another shape": (
        lambda w: {**w, "encoder.layernorm.bias": torch.ones(7)},
        r"1 of another shape \(encoder\.layernorm\.bias is \[7\] instead of \[48\]\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_teacher_whose_weights_do_not_fit_is_refused_by_name(encoder, case):
    change, words = WRONG[case]
    rewrite(encoder, change)
    with pytest.raises(ValueError, match=words) as caught:
        teacher(encoder)
    assert "\n" not in str(caught.value)
    assert str(encoder) in str(caught.value)


def test_a_teacher_with_fewer_layers_than_its_config_says_is_refused(encoder):
    config = encoder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match=r"16 missing \(encoder\.layer\.2\."):
        teacher(encoder)


@pytest.mark.parametrize("part", ["pooler.", "vjepa2.encoder.layer.0."])
def test_a_classifier_that_lacks_a_tensor_is_refused_by_name(originals, tmp_path, part):
    folder = shutil.copytree(originals / "classifier", tmp_path / "model")
    lost = next(name for name in load_file(folder / "model.safetensors") if name.startswith(part))
    rewrite(folder, lambda w: {n: t for n, t in w.items() if n != lost})
    with pytest.raises(ValueError, match=rf"1 missing \({lost}\)"):
        load_vjepa2(str(folder), classes=2)
    rewrite(folder, lambda w: {**w, lost: torch.ones(1), "more": torch.ones(1)})
    with pytest.raises(ValueError, match=r"does not have \(more\).*another shape"):
        load_vjepa2(str(folder), classes=2)


def test_parts_that_a_teacher_does_not_use_may_be_there_or_not(originals, encoder, caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    with_head = teacher(originals / "classifier")
    assert "; left out: " in caplog.text
    assert "(classifier.bias, classifier.weight, pooler." in caplog.text
    weights = load_file(originals / "classifier" / "model.safetensors")
    plain = {n.removeprefix("vjepa2."): t for n, t in weights.items() if n.startswith("vjepa2.encoder.")}
    rewrite(encoder, lambda _: plain)
    first, second = teacher(encoder), teacher(encoder)
    assert "; not in the files: " in caplog.text
    assert weights_hash(first) == weights_hash(second)  # nothing of it is drawn
    assert torch.equal(first(clip := clips()), with_head(clip))


def test_the_encoder_of_a_videomae_pretraining(tmp_path):
    config = VideoMAEConfig(
        image_size=32, num_frames=4, hidden_size=36, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48,
        decoder_num_hidden_layers=1, decoder_hidden_size=24, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, use_mean_pooling=False,
    )  # fmt: skip
    model = VideoMAEForPreTraining(config).eval()
    model.save_pretrained(tmp_path)
    clip = clips()
    pixels = ((clip / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        expected = model.videomae(pixels).last_hidden_state
    torch.testing.assert_close(teacher(tmp_path)(clip), expected, rtol=1e-4, atol=1e-4)


def test_shards_with_an_index(originals, tmp_path):
    VJEPA2Model.from_pretrained(originals / "encoder").save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert weights_hash(teacher(tmp_path)) == weights_hash(teacher(originals / "encoder"))
    index = tmp_path / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text.replace("encoder.layernorm.weight", "encoder.layernorm.other"))
    with pytest.raises(ValueError, match=r"names 1 tensors that its files lack \(encoder\.layernorm\.other\)"):
        teacher(tmp_path)
    index.write_text("{")
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        teacher(tmp_path)
    index.write_text(text)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks 1 of its {len(shards)} files of weights \(model-00002"):
        teacher(tmp_path)


def test_bfloat16_files_become_float32_and_the_log_says_so(encoder, caplog):
    caplog.set_level(logging.INFO)
    rewrite(encoder, lambda w: {n: t.bfloat16() for n, t in w.items()})
    loaded = teacher(encoder)
    stored = load_file(encoder / "model.safetensors")
    assert all(torch.equal(t, stored[n].float()) for n, t in loaded.model.state_dict().items())
    count = sum(p.numel() for p in loaded.parameters())
    line = next(r.getMessage() for r in caplog.records if r.getMessage().startswith("loaded "))
    assert line == (
        f"loaded VJEPA2Model from {encoder}: {len(stored)} tensors in 1 file(s), {count:,} parameters; bfloat16 in the "
        "files, float32 here"
    )


def test_a_pickle_is_not_opened(encoder):
    weights = load_file(encoder / "model.safetensors")
    (encoder / "model.safetensors").unlink()
    torch.save(weights, encoder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"safetensors"):
        teacher(encoder)


BROKEN = {
    "cut short": ("model.safetensors", lambda b: b[:2000], ValueError, r"model\.safetensors is damaged"),
    "empty weights": ("model.safetensors", lambda b: b"", ValueError, r"model\.safetensors is damaged"),
    "no JSON": ("config.json", lambda b: b[:50], ValueError, r"config\.json is damaged"),
    "no text": ("config.json", lambda b: b"\xff\xfe", ValueError, r"config\.json is damaged"),
    "no object": ("config.json", lambda b: b"3", ValueError, r"config\.json is damaged: it holds no JSON object"),
    "no type": ("config.json", lambda b: b"{}", ValueError, "describes no model that transformers can open"),
    "a word for a number": (
        "config.json", lambda b: b.replace(b'"hidden_size": 48', b'"hidden_size": "big"'), ValueError,
        "describes no model|cannot build the model",  # transformers' versions look at it at different times
    ),
    "impossible numbers": (
        "config.json", lambda b: b.replace(b'"hidden_size": 48', b'"hidden_size": 50'), ValueError, "cannot build",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_one_sentence(encoder, case):
    name, change, kind, words = BROKEN[case]
    (encoder / name).write_bytes(change((encoder / name).read_bytes()))
    with pytest.raises(kind, match=words) as caught:
        teacher(encoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["/no/such/folder", "not a name", "~/no-such-folder", "a/b/c"])
def test_a_teacher_that_is_not_there_is_one_sentence(source, monkeypatch, tmp_path):
    offline(monkeypatch, tmp_path)
    with pytest.raises(FileNotFoundError, match="no model at") as caught:
        teacher(source)
    assert "\n" not in str(caught.value)


@pytest.fixture(params=["HF_HUB_OFFLINE", "no name server"])
def unreachable(request, monkeypatch, tmp_path):
    """The hub out of reach, and an empty cache in ``tmp_path``: a list of the names that were looked up."""
    asked = []

    def no_answer(name, *_, **__):
        asked.append(name)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    offline(monkeypatch, tmp_path)
    if request.param != "HF_HUB_OFFLINE":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", no_answer)
    weight_files._connection_error.cache_clear()
    yield asked
    weight_files._connection_error.cache_clear()


OUT_OF_REACH = r"^the model '.*' cannot be reached: .* give a local folder with config\.json"


def test_a_hub_that_cannot_be_reached_is_said_to_be(unreachable):
    for load in (
        lambda: teacher("no/such-model"),
        lambda: load_vjepa2("no/such-model", classes=3),
        lambda: VideoViT(VideoViTConfig("test_vit", frames=4, size=32, pretrained=True)),
    ):
        with pytest.raises(FileNotFoundError, match=OUT_OF_REACH) as caught:
            load()
        assert "\n" not in str(caught.value)
        assert ("HF_HUB_OFFLINE is set" in str(caught.value)) == (not unreachable)
    assert len(unreachable) <= 1  # once in all: retries would take half a minute


def test_what_was_downloaded_is_used_without_the_hub(unreachable, encoder, tmp_path):
    repository = tmp_path / "models--some--teacher"
    shutil.copytree(encoder, repository / "snapshots" / ("c" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    found, there = teacher("some/teacher"), teacher(encoder)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), there.parameters(), strict=True))
    assert len(unreachable) <= 1


def test_a_file_that_cannot_be_read(encoder):
    (encoder / "model.safetensors").unlink()
    (encoder / "model.safetensors").mkdir()
    with pytest.raises((OSError, ValueError), match=r"model\.safetensors (cannot be read|is damaged)"):
        teacher(encoder)


def test_a_language_model_with_a_tied_head(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    model, _ = load_pretrained(AutoModelForCausalLM, str(tmp_path))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace(
        '"tie_word_embeddings": true', '"tie_word_embeddings": false'))  # fmt: skip
    with pytest.raises(ValueError, match=r"1 missing \(lm_head\.weight\)"):
        load_pretrained(AutoModelForCausalLM, str(tmp_path))


def test_an_image_encoder_out_of_a_classifier(tmp_path):
    config = Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, num_labels=3)
    Dinov2ForImageClassification(config).save_pretrained(tmp_path)
    load_pretrained(Dinov2Model, str(tmp_path), parts=Parts(may_leave_out=("classifier.",)))
    with pytest.raises(ValueError, match=r"2 that the model does not have \(classifier\.bias, classifier\.weight\)"):
        load_pretrained(Dinov2Model, str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (IMAGENET_MEAN, IMAGENET_STD)),
        ({"image_mean": 0.5, "image_std": 0.25}, ((0.5,) * 3, (0.25,) * 3)),
        ({"image_mean": [0, 0.5, 1], "image_std": [1, 1, 2]}, ((0, 0.5, 1), (1, 1, 2))),
        ({"do_normalize": False}, ((0.0,) * 3, (1.0,) * 3)),
        ({"image_mean": None}, r"image_mean is None; write three numbers"),
        ({"image_std": [0.5, 0.5]}, r"image_std is \[0\.5, 0\.5\]; write three numbers"),
        ({"image_std": ["a", "b", "c"]}, "write three numbers"),
        ({"image_mean": [float("nan")] * 3}, "write three numbers"),
        ({"image_std": 0}, r"image_std is \[0, 0, 0\]; it must be above 0"),
        ({"rescale_factor": 1}, "only a rescale_factor of 1 / 255 is supported"),
        ({"do_rescale": False}, "only a rescale_factor of 1 / 255 is supported"),
        ([], "holds no JSON object"),
    ],
)
def test_pixel_statistics(tmp_path, fields, expected):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            pixel_statistics(str(tmp_path))
    else:
        assert pixel_statistics(str(tmp_path)) == expected


def test_a_saved_encoder_is_read_whole_or_refused(tmp_path):
    save_encoder(
        VideoViT(VideoViTConfig("vit_tiny_patch16_224", frames=4, size=32, width=24, depth=1, heads=2)), tmp_path
    )
    weights, config = tmp_path / "encoder.safetensors", tmp_path / "encoder.json"
    whole, text = weights.read_bytes(), config.read_text()
    save_file({n: t for n, t in load_file(weights).items() if n != "norm.bias"}, weights)
    with pytest.raises(ValueError, match=r"1 missing \(norm\.bias\)"):
        load_encoder(tmp_path)
    weights.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"encoder\.safetensors is damaged"):
        load_encoder(tmp_path)
    weights.write_bytes(whole)
    for broken in (
        "{",
        "[]",
        text.replace('"depth": 1', '"depth": "one"'),
        text.replace('"tubelet": 2', '"tubelet": 0'),
    ):
        config.write_text(broken)
        with pytest.raises(ValueError, match=r"encoder\.json is damaged"):
            load_encoder(tmp_path)


def offline(monkeypatch, cache):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))


def on_the_hub(folder, weights):
    """A timm model's weights as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    return str(folder)


def test_timm_weights_are_loaded_whole(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=1000)  # with the head that its weights have
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    folder = on_the_hub(tmp_path / "whole", weights)
    unused = Parts(may_leave_out=("head.",))
    loaded = load_timm("test_vit", weights=folder, parts=unused, num_classes=0)
    assert all(torch.equal(t, weights[n]) for n, t in loaded.state_dict().items())
    assert "left out: 2 tensors (head.bias, head.weight)" in caplog.text
    for changed, words in (
        ({n: t for n, t in weights.items() if ".1.attn" not in n}, r"4 missing \(blocks\.1\.attn\.proj\.bias, "),
        ({**weights, "blocks.9.norm1.weight": torch.ones(3)}, r"does not have \(blocks\.9\.norm1\.weight\)"),
        ({**weights, "norm.bias": torch.ones(3)}, r"another shape \(norm\.bias is \[3\] instead of \[64\]\)"),
    ):
        with pytest.raises(ValueError, match=words):
            load_timm("test_vit", weights=on_the_hub(tmp_path / "bad", changed), parts=unused, num_classes=0)
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth is not a safetensors file"):
        load_timm("test_vit", weights=str(tmp_path / "model.pth"))


def test_pretrained_image_weights_from_the_hubs_cache(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    offline(monkeypatch, tmp_path)
    config = VideoViTConfig("test_vit", frames=4, size=32, pretrained=True)
    with pytest.raises(FileNotFoundError, match=r"test_vit.* cannot be reached") as caught:
        VideoViT(config)
    assert "\n" not in str(caught.value)
    model = timm.create_model("test_vit", num_classes=1000)
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    repository = tmp_path / "models--timm--test_vit.r160_in1k"
    on_the_hub(repository / "snapshots" / ("c" * 40), weights)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    encoder = VideoViT(config)
    assert "loaded test_vit from timm/test_vit.r160_in1k (commit cccc" in caplog.text
    assert torch.equal(encoder.blocks[1].attn.qkv.weight, weights["blocks.1.attn.qkv.weight"])
    assert torch.equal(encoder.patch_embed.proj.weight[:, :, 0] * 2, weights["patch_embed.proj.weight"])
