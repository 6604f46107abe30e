"""Reconstruction of frames beside answers, against the published step, and what its options change."""

import dataclasses

import pytest
import torch

from benchmarks.baselines.published_fvlm import Published, Samples, marked
from fastvid.command import UserError
from fastvid.data.text.rows import ClipText
from fastvid.projects.fvlm.film import FilmHead, pixel_latents
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss import TextLoss
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.reconstruct import Reconstructor, latents_of
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.projects.fvlm.reconstruct_loss import ReconstructLoss
from tests.projects.fvlm.batches import batch, exact
from tests.projects.fvlm.test_published_fvlm import assert_same

SHAPE = (3, 8, 8)
JOINT = {
    "layout": "video-first", "first_query": "learnt", "marks": True, "aim": "frames", "mode": "parallel",
    "iterations": 2,
}  # fmt: skip


def reconstructing(config, **options):
    """A float64 model that reconstructs, and its loss."""
    model = Reconstructor(exact(**options), SHAPE, config).double()
    torch.nn.init.normal_(model.film.first_latent)
    text = TextLoss(model.model.config.mode, LossConfig(coarse_weight=0.0))
    return model, ReconstructLoss(text, config)


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("asked", [((5, 6), (7, 8, 9)), ((), ())])
def test_the_joint_step_is_the_published_one(asked, measure):
    """The loss, its terms and the gradient of every parameter, in float64."""
    model, loss_of = reconstructing(ReconstructConfig(weight=0.5, side=8), **JOINT)
    one = batch(asked=asked, answers=((10, 11), (12, 13, 14)), clips=(1, 1))
    loss, terms = loss_of(model, one, 0 if measure else 1)
    samples = Samples.of(Inputs.of(one))
    published = Published(model.model, model.film, model.film.first_latent).joint(
        samples, pixel_latents(samples.clips, 8).double(), marked(model.model, samples), measure=measure
    )
    assert_same(loss.mean, published.loss, model)
    expected = {"fine_loss": published.captions[-1], "fine_reconstruction": published.reconstructions[-1]}
    if measure:
        expected |= {
            "coarse_loss": published.coarse_caption, "coarse_reconstruction": published.coarse_reconstruction
        }  # fmt: skip
    found = {name: term.mean for name, term in terms.items() if not name.endswith("accuracy")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("micro", "calls"), [(0, [True] * 3 + [False]), (1, [True] * 3)])
def test_the_joint_step_has_four_passes_with_gradients_where_the_published_one_has_eight(micro, calls):
    """The last two are one call. And one without gradients every tenth time, for the caption of the coarse pass."""
    model, loss_of = reconstructing(ReconstructConfig(weight=0.5, side=8), **JOINT)
    one = batch(asked=((), ()), answers=((10, 11), (12, 13, 14)), clips=(1, 1))
    read, encoded = [], []
    decoder, encode = model.model.language.model.get_decoder(), model.model.encoder.encode
    decoder.register_forward_hook(lambda _, args, out: read.append(out.last_hidden_state.requires_grad))
    model.model.encoder.encode = lambda clips: encoded.append(len(clips)) or encode(clips)
    loss_of(model, one, micro)
    assert sorted(read, reverse=True) == calls
    assert encoded == [2]


def test_frames_that_are_padding_in_every_clip_are_left_out_and_padding_counts_nowhere():
    model, loss_of = reconstructing(ReconstructConfig(weight=0.5, coarse_weight=1.0, side=8), **JOINT)
    one = batch(asked=((5,), (7,)), answers=((10,), (12,)), clips=(1, 1))
    one.extra["frames"] = torch.tensor([[True, True, False], [True, False, False]])
    expected, terms = loss_of(model, one, 0)
    texts = [ClipText([], (0, 4, 4)), ClipText([], (2, 2, 2))]
    noise = one.clips.clone()
    noise[~one.extra["frames"]] = 7
    loss, _ = loss_of(model, dataclasses.replace(one, clips=noise, text=texts), 0)
    assert_same(loss.total, expected.total, model)
    assert float(terms["fine_reconstruction"].count) == 3


@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("first_query", ["learnt", "text"])
def test_a_reconstruction_behind_the_whole_conversation_learns_no_answer(marks, first_query):
    """Both passes read it once, whose answers differ in length, and queries come from the coarse one."""
    config = ReconstructConfig(weight=1.0, coarse_weight=0.5, told=True, side=8)
    model, loss_of = reconstructing(config, mode="parallel", first_query=first_query, marks=marks)
    one, read = batch(), []
    model.model.language.model.get_decoder().register_forward_hook(
        lambda _, args, out: read.append(out.last_hidden_state)
    )
    loss, terms = loss_of(model, one, 1)
    assert [out.shape[1] for out in read] == [3 + 6, marks + 3, marks + 3]  # the text; a mark and the frames, twice
    assert set(terms) == {"fine_reconstruction", "coarse_reconstruction"}
    assert float(loss.count) == 3 + 3 + 2  # frames of three questions
    expected = terms["fine_reconstruction"].total + 0.5 * terms["coarse_reconstruction"].total
    torch.testing.assert_close(loss.total.detach(), expected)
    samples = Samples.of(Inputs.of(one))
    published = Published(model.model, model.film, model.film.first_latent)
    layers = published.encode(samples.clips)
    latents = pixel_latents(samples.clips, 8).double()
    text = [published.embedded(samples.before), published.embedded(samples.after)]
    tokens, errors = published.glance(published.static(samples), layers), {}
    for kind in ("coarse", "fine"):
        parts = [*text]
        if marks:
            parts.append((model.model.connector.mark(kind).expand(3, -1, -1), torch.ones(3, 1, dtype=torch.bool)))
        front = torch.cat([embeds for embeds, _ in parts], 1), torch.cat([real for _, real in parts], 1)
        errors[kind] = published.reconstruction(front, (tokens, samples.frames), latents)
        first, hidden = published.hidden(front, (tokens, samples.frames))
        tokens = published.glance(published.shifted(hidden, published.first_query(first, front[1])), layers)
    assert_same(loss.mean, errors["fine"] + 0.5 * errors["coarse"], model)


def test_the_head_has_the_published_size_and_predicts_frame_by_frame():
    head = FilmHead(576, (4, 32, 32))
    assert sum(p.numel() for p in head.parameters()) == 1_300_612 + 4 * 32 * 32
    head = FilmHead(6, (2, 5, 7))
    states, latents = torch.randn(2, 3, 4, 6), torch.randn(2, 1, 4, 2, 5, 7)
    whole = head(states, latents)
    assert whole.shape == (2, 3, 4, 2, 5, 7)
    torch.testing.assert_close(head(states[1, 2, 3][None], latents[1, 0, 3][None])[0], whole[1, 2, 3])
    before = head.before(latents)
    torch.testing.assert_close(before[:, :, 1:], latents[:, :, :-1])
    assert (before[:, :, 0] == 0).all()


def test_a_frame_is_its_own_latent_made_small():
    clips = torch.randint(256, (2, 3, 8, 12, 3), dtype=torch.uint8)
    latents = pixel_latents(clips, 4)
    assert latents.shape == (2, 3, 3, 4, 4)
    expected = clips[1, 2, 2:4, 3:6].float().mean((0, 1)) / 127.5 - 1
    torch.testing.assert_close(latents[1, 2, :, 1, 1], expected)


@pytest.mark.parametrize(
    ("latents", "said"),
    [
        (None, "the data brings no latents: use --reconstruct.latents pixels"),
        (torch.zeros(2, 3, 5, 6, 6), "give --reconstruct.channels 5 and --reconstruct.side 6"),
    ],
)
def test_latents_that_do_not_fit_are_one_sentence(latents, said):
    one = batch()
    if latents is not None:
        one.extra["latents"] = latents
    with pytest.raises(UserError, match=said):
        latents_of(one, ReconstructConfig(weight=1.0, latents="data"))
    found = torch.zeros(2, 3, 4, 32, 32, dtype=torch.float16)
    one.extra["latents"] = found
    assert latents_of(one, ReconstructConfig(weight=1.0, latents="data")) is found
