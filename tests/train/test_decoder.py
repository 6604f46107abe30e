from types import SimpleNamespace

import pytest
import torch

from fastvid.data import open_source
from fastvid.train import decoder as module
from fastvid.train.config import DataConfig
from fastvid.train.decoder import choose_decoder
from fastvid.train.rundir import RunDir
from fastvid.train.session import UserError
from fastvid.video import ViewSpec
from fastvid.video.decoders import why_not
from tests.video.clips import encode

SPEC = ViewSpec(frames=4, size=16)


@pytest.fixture
def source(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(encode(8))
    (tmp_path / "3.mp4").write_bytes(b"rubbish")
    return open_source(tmp_path)


@pytest.fixture
def session(tmp_path):
    run = RunDir.create(tmp_path / "run", {})
    world = SimpleNamespace(size=1, is_main=True, device=torch.device("cpu"))
    yield SimpleNamespace(run=run, world=world, record=run.record)
    run.close()


def test_what_is_asked_for_is_used_and_recorded(session, source):
    assert choose_decoder(session, DataConfig(), source, SPEC) == "pyav"
    assert session.run.read_json("run.json")["decoder"] == "pyav"


@pytest.mark.skipif(not why_not("torchcodec-cuda"), reason="torchcodec decodes on the GPU of this machine")
def test_one_that_cannot_run_is_refused_in_a_sentence(session, source):
    with pytest.raises(UserError, match=r"'torchcodec-cuda' cannot be used: .*--data\.decode"):
        choose_decoder(session, DataConfig(decode="torchcodec-cuda"), source, SPEC)


def test_auto_measures_once_and_a_resume_keeps_its_choice(session, source, monkeypatch, caplog):
    chosen = choose_decoder(session, DataConfig(decode="auto"), source, SPEC)
    assert chosen in ("pyav", "torchcodec") or torch.cuda.is_available()
    assert "left out 3.mp4" in caplog.text
    monkeypatch.setattr(module, "resolve", lambda *_: pytest.fail("measured again"))
    assert choose_decoder(session, DataConfig(decode="auto"), source, SPEC) == chosen


@pytest.mark.skipif(bool(why_not("dali", "cpu")), reason=str(why_not("dali", "cpu")))
def test_a_decoder_on_a_device_does_not_fill_the_cache_of_frames(session, source):
    with pytest.raises(UserError, match=r"dali .*--data\.cache-gb 0"):
        choose_decoder(session, DataConfig(decode="dali", cache_gb=1.0), source, SPEC)
