"""Still images, which are encoded once, text without a picture, and models with marks in front of the frames."""

import dataclasses

import pytest
import torch

from benchmarks.baselines.published_fvlm import Published, Samples
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss import TextLoss, freeze_unused
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.reconstruct import Reconstructor
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.projects.fvlm.reconstruct_loss import ReconstructLoss
from fastvid.projects.fvlm.testing import seen
from tests.projects.fvlm.batches import batch, exact, tiny
from tests.projects.fvlm.test_model import of_clip
from tests.projects.fvlm.test_published_fvlm import assert_same
from tests.projects.fvlm.test_reconstruct import JOINT, SHAPE, reconstructing

MODES = ["coarse", "parallel", "stream"]
BLIND = {"marks": True, "aim": "frames", "first_query": "learnt"}
MODELS = {"plain": {}, "marks": {"marks": True}, "aimed by frames": BLIND, "shallow": {"query": "shallow"}}


def stills(looks=3):
    """The batch with one picture of each clip, looked at several times; and the same with copies of it."""
    one = batch()
    frames = torch.ones(2, looks, dtype=torch.bool)
    truth = one.extra["truth"][..., :1].expand(-1, -1, looks)
    once = dataclasses.replace(one, clips=one.clips[:, :1], extra=one.extra | {"frames": frames, "truth": truth})
    return once, dataclasses.replace(once, clips=once.clips.expand(-1, looks, -1, -1, -1))


def texts():
    """The batch without its pictures."""
    one = batch()
    none = one.extra["frames"][:, :0]
    return dataclasses.replace(
        one, clips=one.clips[:, :0], extra=one.extra | {"frames": none, "truth": one.extra["truth"][..., :0]}
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_a_still_image_is_a_clip_of_its_copies_and_is_encoded_once(mode, options):
    model, (once, copied) = exact(**options, iterations=2), stills()
    seen = []
    embed = model.encoder.embed
    model.encoder.embed = lambda pixels: seen.append(len(pixels)) or embed(pixels)
    loss, terms = TextLoss(mode, LossConfig(coarse_weight=0.5))(model, once, 0)
    assert seen == [2]
    expected, its_terms = TextLoss(mode, LossConfig(coarse_weight=0.5))(model, copied, 0)
    assert seen == [2, 6]
    assert_same(loss.total, expected.total, model)
    assert terms.keys() == its_terms.keys()
    look, copy = (model(Inputs.of(x), mode, look=True, gaze="oracle") for x in (once, copied))
    torch.testing.assert_close(look.entropy, copy.entropy)
    for left, right in zip(look.attention, copy.attention, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("mode", MODES)
def test_a_still_image_is_the_published_one_replicated(mode):
    model, (once, _) = exact(iterations=2), stills(8)
    out = model(Inputs.of(once), mode)
    assert out.queries.shape[2] == 8
    assert_same(out.losses.mean(), Published(model).answers(Samples.of(Inputs.of(once)), mode, iterations=2), model)


def test_the_frames_of_a_still_image_are_reconstructed_as_those_of_its_copies_are():
    model, loss_of = reconstructing(ReconstructConfig(weight=0.5, coarse_weight=0.3, side=8), **JOINT)
    once, copied = stills()
    loss, expected = (loss_of(model, x, 0)[0].total for x in (once, copied))
    assert_same(loss, expected, model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_text_without_a_picture_is_what_the_language_model_says_and_the_encoder_is_left_alone(mode, options):
    model, one = exact(**options), texts()
    model.encoder.embed = None  # not called
    out = model(Inputs.of(one), mode, coarse=True, look=True)
    assert_same(out.losses.mean(), Published(model).answers(Samples.of(Inputs.of(one)), mode), model)
    assert out.coarse is None
    _, terms = TextLoss(mode, LossConfig())(model, one, 0)
    assert set(terms) == {"text_loss", "text_accuracy"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [*MODELS.values(), {"layout": "video-first", "first_query": "learnt"}])
@pytest.mark.parametrize("pictures", [texts, lambda: stills(1)[0], batch])
@pytest.mark.parametrize("weights", [{"weight": 0.5}, {"coarse_weight": 1.0}])
def test_every_trained_parameter_has_a_gradient_whatever_a_batch_holds(mode, options, pictures, weights):
    """Several processes would wait for one that is missing."""
    config = LossConfig(coarse_weight=0.5)
    model = tiny(**options)
    freeze_unused(model, mode, config.coarse_weight, reconstructs=True)
    module = Reconstructor(model, SHAPE, ReconstructConfig(side=8, **weights))
    loss, _ = ReconstructLoss(TextLoss(mode, config), module.config)(module, pictures(), 1)
    loss.total.backward()
    assert [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"marks": True}, BLIND])
def test_with_marks_an_answer_depends_on_its_own_clip_and_question_alone(mode, options):
    model, whole = exact(**options, iterations=2), Inputs.of(batch())
    out = model(whole, mode)
    for clip, question in ((0, 0), (0, 1), (1, 0)):
        alone = model(of_clip(whole, clip, [question]), mode)
        torch.testing.assert_close(alone.losses.sum(), out.spread(out.losses)[clip, question].sum())
    mark = model.connector.coarse_mark if mode == "coarse" else model.connector.fine_mark
    assert torch.autograd.grad(out.losses.sum(), mark)[0].abs().max() > 0


@pytest.mark.parametrize("mode", ["parallel", "stream"])
def test_a_row_without_text_in_front_begins_with_the_learnt_query_whatever_its_neighbours_have(mode):
    model, whole = exact(), Inputs.of(batch(asked=((5, 6), (), (5,))))
    out = model(whole, mode)
    torch.testing.assert_close(out.queries[0, 1, 0], model.connector.first_query)
    assert not torch.allclose(out.queries[0, 0, 0], model.connector.first_query)
    alone = of_clip(whole, 0, [1])
    alone = dataclasses.replace(alone, before=alone.before[..., :0], before_mask=alone.before_mask[..., :0])
    said = model(alone, mode)
    torch.testing.assert_close(said.losses.sum(), out.spread(out.losses)[0, 1].sum())
    torch.testing.assert_close(said.ahead[0, 0], out.ahead[0, 1])


def test_queries_that_frames_alone_predict_know_nothing_of_the_question():
    model, whole = exact(**BLIND), Inputs.of(batch())
    other = dataclasses.replace(whole, before=whole.before + 1)
    for mode in ("parallel", "stream"):
        out = model(whole, mode)
        torch.testing.assert_close(model(other, mode).queries, out.queries)
        torch.testing.assert_close(out.queries[0, 0], out.queries[0, 1])
        assert not torch.allclose(model(other, mode).logits, out.logits)


def test_all_text_behind_the_video_is_learnt_where_it_is_wanted():
    model, one = exact(layout="video-first", first_query="learnt"), batch()
    loss, _ = TextLoss("parallel", LossConfig(learn="all", coarse_weight=0.0))(model, one, 1)
    inputs = Inputs.of(one)
    assert float(loss.count) == int(inputs.after_mask.sum()) > int(inputs.learnt.sum())
    whole = dataclasses.replace(inputs, labels=inputs.after.masked_fill(~inputs.after_mask, -100))
    assert_same(loss.mean, Published(model).answers(Samples.of(whole), "parallel"), model)


def test_what_is_shown_of_a_still_image_is_one_frame_and_its_looks():
    once, copies = stills()
    frame, looks = seen(once, 0)
    assert looks == 3
    assert torch.equal(frame, once.clips[0])
    frames, looks = seen(copies, 0)
    assert looks == 1
    assert torch.equal(frames, frame.expand(3, -1, -1, -1))
    frames, looks = seen(batch(), 1)  # its last frame is padding
    assert (len(frames), looks) == (2, 1)
