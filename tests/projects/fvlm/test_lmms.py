"""The model that lmms-eval asks: with lmms-eval where it is installed, else with a stand-in of its interface."""

import abc
import dataclasses
import importlib
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from fastvid.data import ChatFormat
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.multiple_choice import BLIND, Prompt, score
from fastvid.projects.fvlm.open_model import open_model
from fastvid.projects.fvlm.saved import load, save
from fastvid.video import ViewSpec, decode_view, probe
from tests.video.clips import encode

TEXTS = ["What is it?", "a square", "a disc moves", "Describe the video."]


class StandIn(abc.ABC):
    """lmms-eval's base class: what it makes of a model, and what a model must have."""

    is_simple = True

    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Likewise, of its registry."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass
class Request:
    """Likewise, an ``Instance``."""

    arguments: tuple

    @property
    def args(self):
        return self.arguments


@pytest.fixture(scope="module")
def adapter():
    """The adapter's module."""
    name = "fastvid.projects.fvlm.lmms"
    try:
        importlib.import_module("lmms_eval.api.model")
        yield importlib.import_module(name)
    except ImportError:
        parts = {"lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.api.model": {"lmms": StandIn}}
        parts |= {"lmms_eval.models": {}, "lmms_eval.models.registry_v2": {"ModelManifest": Manifest}}
        with pytest.MonkeyPatch.context() as patch:
            for part, content in parts.items():
                module = types.ModuleType(part)
                vars(module).update(content)
                patch.setitem(sys.modules, part, module)
            patch.delitem(sys.modules, name, raising=False)
            yield importlib.import_module(name)
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = ModelConfig(init="tiny", tiny_width=16, tiny_heads=2, tiny_layers=1)
    model, tokenizer = open_model(config, size=32, texts=TEXTS)
    views = ViewSpec(frames=3, size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    about = {"views": dataclasses.asdict(views), "max_fps": None, "question": TEXTS[-1], "mode": "stream"}
    about["image_looks"] = 4
    save(folder / "model", model, tokenizer, about)
    (folder / "clip.mp4").write_bytes(encode(7))
    return folder


@pytest.fixture
def asked(adapter, run):
    """The model, with the documents of a task: a video, pictures, and nothing to see."""
    model = adapter.FvlmLmms(str(run), device="cpu")
    pictures = [Image.fromarray(np.full((40, 60, 3), shade, np.uint8)) for shade in (0, 200)]
    model.task_dict = {
        "task": {"test": [{"see": [str(run / "clip.mp4")]}, {"see": [pictures]}, {"see": None}, {"see": pictures[1:]}]}
    }
    return model


def request(text, wanted, document):
    return Request((text, wanted, lambda found: found["see"], document, "task", "test"))


def seen(run, document):
    """The frames that the model should see of a document."""
    if document == 0:
        data = (run / "clip.mp4").read_bytes()
        return torch.from_numpy(decode_view(data, ViewSpec(frames=3, size=32).center("x", probe(data))))
    shades = (0, 200) if document == 1 else (200,) * 4  # a picture alone, at which this model looks four times
    return torch.stack([torch.full((32, 32, 3), shade, dtype=torch.uint8) for shade in shades])


@pytest.mark.parametrize("document", [0, 1, 3])
def test_answers_are_those_of_the_model(asked, run, document):
    (said,) = asked.generate_until([request("<image>\nWhat is it?", {"max_new_tokens": 5}, document)])
    trained = load(run / "model")
    chat = ChatFormat(trained.tokenizer)
    expected = Answer(trained.model, chat, *chat.prompt("What is it?"), mode="stream", most=5)
    assert said == "".join(expected.about(seen(run, document))).strip()
    word = expected.text.split()[0]
    assert asked.generate_until([request("What is it?", {"until": [word]}, document)]) == [""]


def test_likelihoods_come_in_order_for_one_encoding_of_each_document(asked, run, monkeypatch):
    encoded = []
    model = asked.trained.model
    encode_clips = model.encode
    monkeypatch.setattr(model, "encode", lambda clips: encoded.append(tuple(clips.shape[:2])) or encode_clips(clips))
    texts = [" a square", "a disc moves", lambda document: "a disc"]
    requests = [request("What is it?", text, document) for text in texts for document in (0, 1, 2, 3)]
    requests.append(Request(("", "a square")))  # text alone, as for mutual information
    found = asked.loglikelihood(requests)
    assert len(found) == len(requests)
    assert sorted(encoded) == [(1, 0), (1, 0), (1, 1), (1, 2), (1, 3)]
    trained = load(run / "model")
    chat = ChatFormat(trained.tokenizer)
    prompt = Prompt.of(chat, "What is it?", ["a square", "a disc moves", "a disc"], end=False)
    for document in (0, 1, 2, 3):
        frames, mode = seen(run, document), BLIND if document == 2 else "stream"
        real = torch.ones(1, len(frames), dtype=torch.bool)
        scores = score(trained.model, frames[None], real, [[prompt]], (mode,))[mode]
        mine = found[document : len(texts) * 4 : 4]
        assert [value for value, _ in mine] == pytest.approx((-scores.mean[0, 0]).tolist(), rel=1e-4)
        assert [greedy for _, greedy in mine] == scores.greedy[0, 0].tolist()


def test_what_is_not_made_is_refused(asked, adapter, run):
    with pytest.raises(ValueError, match="samples and beams are not made"):
        asked.generate_until([request("What is it?", {"do_sample": True}, 0)])
    with pytest.raises(NotImplementedError, match="several rounds"):
        asked.generate_until_multi_round([])
    with pytest.raises(ValueError, match="no mode 'sideways'"):
        adapter.FvlmLmms(str(run), mode="sideways", device="cpu")


def test_lmms_eval_finds_the_class(adapter):
    manifest = adapter.manifest()
    module, _, name = manifest.simple_class_path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is adapter.FvlmLmms
    assert adapter.FvlmLmms.is_simple
