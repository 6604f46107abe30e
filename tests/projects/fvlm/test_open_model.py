"""Opening and saving of models: pretrained ones from folders, and one sentence for what does not fit."""

import json
import re

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTModel,
)

from fastvid.data import ChatFormat
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.open_model import open_encoder, open_language, open_model, open_tokenizer
from fastvid.projects.fvlm.saved import load, save
from fastvid.projects.fvlm.tokenizer import END, word_tokenizer
from tests.projects.fvlm.batches import batch

TEXTS = ["Read the tile that is red", "A B C D E F G H"]
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 32}
LLAMA = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "eos_token_id": 3,
}  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    """An encoder and a language model with its tokenizer, saved as Hugging Face saves them."""
    Dinov2Model(Dinov2Config(**VIT)).save_pretrained(tmp_path / "vision")
    tokenizer = word_tokenizer(TEXTS)
    language = LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=len(tokenizer), tie_word_embeddings=True))
    language.save_pretrained(tmp_path / "language")
    tokenizer.save_pretrained(tmp_path / "language")
    return tmp_path


def config(folders, **options):
    return ModelConfig(encoder=str(folders / "vision"), language=str(folders / "language"), **options)


def test_a_pretrained_model_is_opened_from_folders(folders):
    model, tokenizer = open_model(config(folders), size=32, texts=())
    theirs = LlamaForCausalLM.from_pretrained(folders / "language")
    assert torch.equal(model.language.embeddings, theirs.get_input_embeddings().weight)
    assert model.connector.token_scale == pytest.approx(float(model.language.embeddings.detach().std()))
    assert model(Inputs.of(batch())).logits.isfinite().all()
    assert tokenizer.eos_token == END


def test_connectors_start_from_the_seed_alone(folders):
    first, second = (open_model(config(folders), size=32, texts=())[0] for _ in range(2))
    other = open_model(config(folders, init_seed=1), size=32, texts=())[0]
    assert torch.equal(first.connector.static_query, second.connector.static_query)
    assert not torch.equal(first.connector.static_query, other.connector.static_query)


@pytest.mark.parametrize("kind", ["tiny", "dinov2", "dinov3"])
def test_a_saved_model_is_the_same_without_its_sources(folders, kind, tmp_path_factory):
    if kind == "tiny":
        model, tokenizer = open_model(ModelConfig(init="tiny", tiny_width=16, tiny_heads=2), size=32, texts=TEXTS)
    else:
        model, tokenizer = open_model(_with_encoder(folders, kind), size=32, texts=())
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(folder, model, tokenizer, {"frames": 3})
    for source in ("vision", "language"):
        (folders / source).rename(folders / f"{source} that has moved")
    found = load(folder)
    assert found.about == {"frames": 3}
    assert not found.training
    assert found.tokenizer.chat_template == tokenizer.chat_template
    assert found.tokenizer.encode("read the tile") == tokenizer.encode("read the tile")
    inputs = Inputs.of(batch())
    assert torch.equal(found(inputs).logits, model(inputs).logits)


def _with_encoder(folders, kind):
    if kind == "dinov3":
        vit = {**VIT, "intermediate_size": 32, "num_register_tokens": 2}
        DINOv3ViTModel(DINOv3ViTConfig(**vit)).save_pretrained(folders / "vision")
    return config(folders)


def test_an_encoder_that_timm_saved_is_opened_and_saved(folders, tmp_path):
    arguments = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
    (tmp_path / "timm").mkdir()
    save_file(theirs.state_dict(), tmp_path / "timm" / "model.safetensors")
    about = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": arguments,
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]},
    }
    (tmp_path / "timm" / "config.json").write_text(json.dumps(about))
    options = {**vars(config(folders)), "encoder": str(tmp_path / "timm")}
    model, tokenizer = open_model(ModelConfig(**options), size=32, texts=())
    assert torch.equal(model.encoder.model.pos_embed, theirs.pos_embed)
    assert (model.encoder.mean, model.encoder.std) == ((0.1, 0.2, 0.3), tuple(theirs.pretrained_cfg["std"]))
    save(tmp_path / "model", model, tokenizer, {})
    (tmp_path / "timm").rename(tmp_path / "moved")
    found, inputs = load(tmp_path / "model"), Inputs.of(batch())
    assert found.model.encoder.mean == (0.1, 0.2, 0.3)
    assert torch.equal(found(inputs).logits, model(inputs).logits)
    (tmp_path / "moved" / "config.json").write_text(json.dumps({**about, "architecture": "vit_of_nobody"}))
    with pytest.raises(ValueError, match=r"timm cannot build the model of .*vit_of_nobody"):
        open_encoder(str(tmp_path / "moved"))


def test_a_saved_model_has_the_names_of_the_hub_and_one_of_an_older_run_opens(folders, tmp_path):
    model, tokenizer = open_model(config(folders), size=32, texts=())
    folder, inputs = tmp_path / "model", Inputs.of(batch())
    save(folder, model, tokenizer, {})
    names = load_file(folder / "encoder" / "model.safetensors").keys()
    assert "encoder.layer.0.attention.attention.query.weight" in names  # in the model another one, by transformers 5.24
    assert "model.layers.0.self_attn.q_proj.weight" in load_file(folder / "language" / "model.safetensors")
    assert all(name.startswith("connector.") for name in load_file(folder / "model.safetensors"))
    said = load(folder)(inputs).logits
    assert torch.equal(said, model(inputs).logits)
    # Until then all weights stood in one file, under the names of the modules.
    for name in ("encoder", "language"):
        (folder / name / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors lacks"):
        load(folder)
    save_file({n: t.clone() for n, t in model.state_dict().items()}, folder / "model.safetensors")
    assert torch.equal(load(folder)(inputs).logits, said)


def test_a_damaged_model_is_refused_in_one_sentence(folders, tmp_path):
    model, tokenizer = open_model(config(folders), size=32, texts=())
    folder = tmp_path / "model"
    save(folder, model, tokenizer, {})
    save_file({"connector.static_query": torch.zeros(16)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="model is damaged, or of another version of fastvid"):
        load(folder)
    with pytest.raises(FileNotFoundError, match=r"it has no fvlm\.json"):
        load(tmp_path)
    with pytest.raises(ValueError, match="saved whole"):
        load(folder, source="elsewhere")


def test_a_language_model_without_a_chat_template_is_refused(folders):
    (folders / "language" / "chat_template.jinja").unlink()
    _, tokenizer = open_model(config(folders), size=32, texts=())
    with pytest.raises(ValueError, match="language has no chat template"):
        ChatFormat(tokenizer)


def test_the_tokenizer_of_another_model_is_refused(folders):
    more = word_tokenizer(str(number) for number in range(50))
    more.save_pretrained(folders / "language")
    with pytest.raises(ValueError, match=r"does not belong to its model: it has token \d+, and the model embeds"):
        open_model(config(folders), size=32, texts=())


def test_another_end_token_is_refused(folders):
    tokenizer = word_tokenizer(TEXTS)
    tokenizer.eos_token = "<unk>"
    tokenizer.save_pretrained(folders / "language")
    with pytest.raises(ValueError, match="its end token '<unk>' is number 1, and the model's is 3"):
        open_model(config(folders), size=32, texts=())


def test_a_language_model_without_a_tokenizer_is_refused(folders):
    with pytest.raises(FileNotFoundError, match=r"it has no tokenizer.json; save the model's beside it"):
        open_tokenizer(str(folders / "vision"))


def test_an_encoder_is_no_language_model_and_the_other_way_round(folders):
    with pytest.raises(ValueError, match="is a dinov2 model; causal language models are supported"):
        open_language(str(folders / "vision"))
    with pytest.raises(ValueError, match="is a llama model; DINOv2 and"):
        open_encoder(str(folders / "language"))
    ViTModel(ViTConfig(**VIT)).save_pretrained(folders / "vit")
    with pytest.raises(ValueError, match="is a vit model; DINOv2 and"):
        open_encoder(str(folders / "vit"))


def test_a_language_model_that_scales_its_logits_is_refused(folders):
    granite = GraniteForCausalLM(GraniteConfig(**LLAMA, vocab_size=40, logits_scaling=8.0))
    granite.save_pretrained(folders / "granite")
    with pytest.raises(ValueError, match="granite model computes its answer in a way that is not supported"):
        open_language(str(folders / "granite"))


def test_frames_smaller_than_a_patch_are_refused_at_once(folders):
    with pytest.raises(ValueError, match="frames of 8 x 8 are smaller than a patch of 16 x 16"):
        open_model(config(folders), size=8, texts=())


def test_the_tokenizer_of_words_depends_on_the_texts_alone_and_keeps_its_roles():
    tokenizer = word_tokenizer(TEXTS)
    again = word_tokenizer(reversed(TEXTS))
    assert tokenizer.get_vocab() == again.get_vocab()
    small = word_tokenizer(["a b c d e f g h i j"], most=9)
    assert len(small) == 9
    assert {"user", "assistant", "system", "a", "b"} <= small.get_vocab().keys()
    chat = [{"role": "user", "content": "Read the tile."}, {"role": "assistant", "content": "A b C"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert re.findall(r"<\|im_\w+\|>", text) == ["<|im_start|>", "<|im_end|>"] * 2
    ids = tokenizer.encode(text)
    assert ids.count(tokenizer.eos_token_id) == 2
    assert tokenizer.decode(tokenizer.encode("A b c zebra"), skip_special_tokens=True) == "a b c"
