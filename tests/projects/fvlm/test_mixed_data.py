"""Runs on the two formats of shards that fVLM's users have, on still images and on texts, mixed by share."""

import json
from dataclasses import replace

import pytest
import torch

from fastvid.command import UserError
from fastvid.data import ChatFormat, LoaderState, TrainLoader, open_described, subset
from fastvid.data.__main__ import main
from fastvid.projects import fvlm
from fastvid.projects.fvlm.mixture import mixture_sampler, train_mixture
from fastvid.projects.fvlm.presets import PRESETS
from fastvid.projects.fvlm.stored import check_tokens
from fastvid.train.config import parse
from fastvid.train.distributed import World
from tests.data.chatting import tokenizer
from tests.data.test_kinds import picture, write_tar
from tests.data.test_pt_shards import samples
from tests.projects.cut_off import cut_off_and_resume
from tests.projects.fvlm.test_recipes import SMALL, weights
from tests.train.conftest import records

LATENTS = ("--reconstruct.latents", "data", "--reconstruct.side", "2", "--reconstruct.channels", "4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards of torch.save, packed; a tar of pictures, videos and images; one of texts; and one of tokens."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "src").mkdir()
    torch.save({"samples": samples(9), "count": 9}, folder / "src" / "shard_0000.pt")
    assert main(["pack", str(folder / "src"), "--out", str(folder / "pt"), "--format", "pt", "--jobs", "0"]) == 0
    ask = {"user": "<image>what is this", "assistant": "a 1", "source": "some"}
    members = {}
    for number in range(5):
        frames = 1 if number % 2 else 3
        members |= {f"{number}.{frame:03d}.jpg": picture(frame, 40) for frame in range(frames)}
        members[f"{number}.json"] = {**ask, "frame_count": frames}
    write_tar(folder / "tar" / "s-000000.tar", members)
    text = {"user": "what is a", "assistant": "a 2"}
    write_tar(folder / "text" / "t-000000.tar", {f"{n}.json": text for n in range(4)})
    tokens = {}
    for number in range(4):
        tokens |= {f"{number}.{frame:03d}.jpg": picture(frame, 40) for frame in range(2)}
        tokens[f"{number}.json"] = {"token_ids": [999] * 6, "loss_mask": [0, 0, 0, 1, 1, 1]}
    write_tar(folder / "tokens" / "t-000000.tar", tokens)
    return folder


def config_of(folder, path, *options):
    arguments = ["--preset", "joint", *SMALL, "--data.path", path, "--run.dir", folder, *options]
    found, _ = parse("fvlm", PRESETS, "demo", [*map(str, arguments)])
    return found


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("pt", *LATENTS), id="torch.save"),
        pytest.param(("tar", "--data.mix", "text=0.3", "--data.image-looks", 3), id="tar, images and texts"),
    ],
)
def test_a_run_on_the_users_formats_goes_on_exactly(data, tmp_path, monkeypatch, options):
    path, *more = options
    monkeypatch.chdir(data)
    run = fvlm.train(config_of(tmp_path / "through", path, *more))
    config = config_of(tmp_path / "cut", path, *more)
    assert config.data.mix in ((), (f"{data}/text=0.3",))
    monkeypatch.chdir(tmp_path)
    cut_off_and_resume("fvlm", config, TrainLoader, 7, monkeypatch)
    assert records(tmp_path / "cut") == records(run.path)
    left, right = weights(tmp_path / "cut"), weights(run.path)
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert "fine_reconstruction" in run.metrics[0]
    assert run.series("fine", "clips")[1] == [4, 8, 12, 16]
    found = json.loads((run.path / "measures.json").read_text())
    assert found["clips"] == ({"train": 5, "val": 2, "test": 2} if path == "pt" else found["clips"])
    log = (run.path / "log.txt").read_text()
    if path == "tar":
        assert all(said in log for said in ("of 1-tar, videos: ", "of 1-tar, images: ", "of 2-text, texts: "))


def test_tokens_of_another_model_are_refused_in_a_sentence(data, tmp_path, capsys):
    with pytest.raises((UserError, RuntimeError)):
        fvlm.train(config_of(tmp_path / "run", data / "tar", "--data.mix", f"{data / 'tokens'}=0.3"))
    said = capsys.readouterr().err
    assert "of 4 rows of token_ids that were looked at, 0 are what the model's tokenizer makes of their text" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (("text",), "PATH=SHARE is expected"),
        (("text=1.5",), "a share above 0 and at most 1"),
        (("text=0.7", "tar=0.6"), "the shares are 1.3 in all"),
        (("nothing=0.3",), "no data at"),
    ],
)
def test_collections_that_make_no_sense_are_one_sentence(data, tmp_path, capsys, mix, said, monkeypatch):
    monkeypatch.chdir(data)
    with pytest.raises((UserError, RuntimeError)):
        fvlm.train(config_of(tmp_path / "run", data / "tar", "--data.mix", *mix))
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("tar", LATENTS, "no latents are stored beside"),
        ("pt", LATENTS[:2], "the latents are of 4 x 2 x 2: give --reconstruct.channels 4 and --reconstruct.side 2"),
    ],
)
def test_latents_are_looked_at_before_a_run_begins(data, tmp_path, capsys, path, options, said):
    with pytest.raises((UserError, RuntimeError)):
        fvlm.train(config_of(tmp_path / "run", data / path, *options))
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_rows_without_a_question_cannot_say_where_to_look_first(tmp_path):
    tokens = {f"0.{frame:03d}.jpg": picture(frame, 40) for frame in range(2)}
    write_tar(tmp_path / "s-000000.tar", {**tokens, "0.json": {"token_ids": [9, 10]}})
    source, chat = open_described(tmp_path), ChatFormat(tokenizer("a cat is"))
    config = PRESETS["demo"]()
    with pytest.raises(UserError, match=r"in the token_ids of s-000000/0 nothing stands in front of the frames"):
        check_tokens(config, [source], chat)
    check_tokens(replace(config, model=replace(config.model, first_query="learnt")), [source], chat)


def test_latents_need_whole_frames(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        config_of(tmp_path, data / "pt", *LATENTS, "--data.flip", 0.5)
    assert "the data's latents are of whole frames" in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_each_sample_of_a_collection_of_several_kinds_is_shown_as_often(data):
    config = config_of("run", data / "tar", "--data.lengths", 2, 4, "--data.budget", 16, "--data.image-looks", 8).data
    source = open_described(data / "tar")
    mixture = train_mixture(config, source)
    assert [(part.kind, len(part.source.samples)) for part in mixture.parts] == [("video", 3), ("image", 2)]
    world = World(0, 1, torch.device("cpu"))
    sampler = mixture_sampler(config, mixture.parts, 4, 0, world, LoaderState())
    state = LoaderState()
    for _ in range(400):
        state = sampler.after(state)
    # Batches of up to four videos of four frames, of which there are three, and of two images that count eight.
    videos, images = sampler.part_coverage(state)
    assert videos.clips / 3 == pytest.approx(images.clips / 2, rel=0.35)
    assert train_mixture(replace(config, mix=()), subset(source, [True, False] * 2 + [True])) is None
