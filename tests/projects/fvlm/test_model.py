"""The model: what a row depends on, what is trained, and that reading in parts is reading at once."""

import dataclasses

import pytest
import torch

from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss import TextLoss, freeze_unused
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.passes import Pass
from tests.projects.fvlm.batches import SIZE, VOCABULARY, batch, tiny

MODES = ["coarse", "parallel", "stream"]


def inputs():
    return Inputs.of(batch())


def of_clip(whole, clip, questions):
    """The inputs of one clip and some of its questions, without padding frames."""
    frames = int(whole.frames[clip].sum())
    parts = {f.name: getattr(whole, f.name) for f in dataclasses.fields(Inputs)}
    picked = {name: x[clip : clip + 1] for name, x in parts.items()}
    rows = {name: picked[name][:, questions] for name in picked if name not in ("clips", "frames")}
    rows["truth"] = rows["truth"][..., :frames]
    return Inputs(clips=picked["clips"][:, :frames], frames=picked["frames"][:, :frames], **rows)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("query", ["deep", "shallow"])
def test_an_answer_depends_on_its_own_clip_and_question_alone(mode, query):
    model, whole = tiny(query=query, iterations=2).double(), inputs()
    out = model(whole, mode)
    for clip, question in ((0, 0), (0, 1), (1, 0)):
        alone = model(of_clip(whole, clip, [question]), mode)
        expected = out.spread(out.losses)[clip, question]
        torch.testing.assert_close(alone.spread(alone.losses)[0, 0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_what_padding_holds_changes_nothing(mode):
    model, whole = tiny().double(), inputs()
    noise = torch.Generator().manual_seed(5)
    clips = whole.clips.clone()
    clips[~whole.frames] = torch.randint(256, clips[~whole.frames].shape, generator=noise, dtype=torch.uint8)
    before = torch.where(whole.before_mask, whole.before, 7)
    after = torch.where(whole.after_mask, whole.after, 7)
    other = dataclasses.replace(whole, clips=clips, before=before, after=after)
    torch.testing.assert_close(model(other, mode).logits, model(whole, mode).logits, rtol=1e-6, atol=1e-6)


def test_the_questions_of_a_clip_share_its_keys():
    model, whole = tiny(), inputs()
    counted = []
    model.encoder.model.register_forward_hook(lambda *_: None)
    encode = model.encoder.encode
    model.encoder.encode = lambda clips: counted.append(tuple(clips.shape[:2])) or encode(clips)
    model(whole, "stream", coarse=True)
    assert counted == [(2, 3)]  # each frame once, for all questions and both passes
    keys = encode(whole.clips)
    again = model(whole, "parallel", keys=keys)
    assert len(counted) == 1
    torch.testing.assert_close(again.logits, model(whole, "parallel").logits)


def test_streaming_is_reading_everything_anew_for_every_frame():
    model, whole = tiny().double(), inputs()
    with torch.no_grad():
        out = model(whole, "stream")
        alone = Pass(model, whole, model.encode(whole.clips), "learnt")
        queries = out.queries
        tokens, _ = alone.tokens(queries)
        before = model.language.embed(whole.before.flatten(0, 1))
        real = torch.cat([whole.before_mask.flatten(0, 1) | ~whole.questions.flatten()[:, None], alone.real], 1)
        seen = []
        for t in range(whole.frames.shape[1] + 1):  # no cache: the language model reads its whole past each time
            embeds = torch.cat([before, tokens[:, :t]], 1)
            hidden = model.language.start().read(embeds, real[:, : embeds.shape[1]])
            seen.append(model.connector.predict(hidden[:, -1]))
    for t in range(whole.frames.shape[1]):
        rows = whole.questions.flatten() & alone.real[:, t]
        torch.testing.assert_close(queries.flatten(0, 1)[rows, t], seen[t][rows], rtol=1e-6, atol=1e-6)
    again = model(whole, "stream", queries=queries)
    torch.testing.assert_close(again.logits, out.logits, rtol=1e-6, atol=1e-6)


def test_the_language_models_own_forward_pass_says_the_same():
    model, whole = tiny().double(), of_clip(inputs(), 0, [1])
    out = model(whole, "coarse")
    tokens, _ = Pass(model, whole, model.encode(whole.clips), "learnt").tokens(
        model.connector.static_query.expand(1, 1, 3, -1)
    )
    rows = [
        model.language.embed(whole.before[0][whole.before_mask[0]]),
        tokens[0],
        model.language.embed(whole.after[0][whole.after_mask[0]]),
    ]
    said = model.language.model(inputs_embeds=torch.cat(rows)[None]).logits[0]
    front = len(rows[0]) + len(rows[1]) - 1
    learnt = whole.learnt[0][whole.after_mask[0]].nonzero().flatten() + front
    torch.testing.assert_close(out.logits, said[learnt], rtol=1e-6, atol=1e-6)


def test_gradients_go_through_all_looks():
    model, whole = tiny(), inputs()
    out = model(whole, "stream")
    out.losses.sum().backward()
    assert model.connector.predict.weight.grad.abs().max() > 0
    late = tiny()
    late.connector.predict.weight.requires_grad_(False)
    late(whole, "stream").losses.sum().backward()
    assert late.language.embeddings.grad[5].abs().max() > 0  # a word of the question, which queries come from


@pytest.mark.parametrize("mode", MODES)
def test_every_trained_parameter_has_a_gradient_whatever_the_mode(mode):
    model, config = tiny(), LossConfig()
    freeze_unused(model, mode, config.coarse_weight)
    loss, _ = TextLoss(mode, config)(model, batch(), 0)
    loss.total.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("part", ["encoder", "language"])
def test_frozen_parts_stay_as_they_are_through_training(part):
    model = tiny(**{f"freeze_{part}": True})
    frozen = {name: x.clone() for name, x in getattr(model, part).state_dict().items()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1, weight_decay=0.5)
    model.train()
    before = model.connector.token.weight.detach().clone()
    for _ in range(2):
        loss, _ = TextLoss("stream", LossConfig())(model, batch(), 0)
        loss.total.backward()
        optimizer.step()
    assert not getattr(model, part).training  # no dropout
    assert all(torch.equal(x, frozen[name]) for name, x in getattr(model, part).state_dict().items())
    assert not torch.equal(model.connector.token.weight, before)


def test_the_two_models_never_drop_anything():
    model = tiny()
    model.train()
    assert model.training
    assert model.connector.training
    assert not any(module.training for part in (model.encoder, model.language) for module in part.modules())


def test_the_loss_is_a_sum_over_tokens_and_the_coarse_pass_has_a_weight():
    model, part = tiny(), batch()
    loss, terms = TextLoss("stream", LossConfig(coarse_weight=0.5))(model, part, 0)
    assert float(loss.count) == len(Inputs.of(part).labels[Inputs.of(part).learnt]) == 9
    expected = terms["fine_loss"].total + 0.5 * terms["coarse_loss"].total
    torch.testing.assert_close(loss.total.detach(), expected)
    alone, terms = TextLoss("coarse", LossConfig())(model, part, 0)
    torch.testing.assert_close(alone.total.detach(), terms["coarse_loss"].total)
    assert "fine_loss" not in terms
    only, terms = TextLoss("stream", LossConfig(coarse_weight=0.0))(model, part, 0)
    assert set(terms) == {"fine_loss", "fine_accuracy", "coarse_loss", "coarse_accuracy"}  # measured, not trained
    torch.testing.assert_close(only.total.detach(), terms["fine_loss"].total)


def test_the_floor_of_the_entropy_fades_out_and_pulls_attention_apart():
    config = LossConfig(
        entropy_floor=5.0, entropy_weight=0.5, entropy_from=1, entropy_steps=10
    )  # above all that 5 tokens can have
    model, part = tiny(), batch()
    plain, _ = TextLoss("stream", LossConfig())(model, part, 0)
    inputs = Inputs.of(part)
    entropy = model(inputs, entropy=True).entropy[:, inputs.questions[:, :, None] & inputs.frames[:, None]]
    for micro, weight in ((0, 0.0), (1, 0.5), (5, 0.3), (11, 0.0), (99, 0.0)):
        loss, _ = TextLoss("stream", config)(model, part, micro)
        expected = plain.total + weight * 9 * (5.0 - entropy.mean())
        torch.testing.assert_close(loss.total, expected)
    loss, _ = TextLoss("stream", config)(model, part, 1)
    ((loss.total - plain.total) / 9).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad
    assert model(inputs, entropy=True).entropy.mean() > entropy.mean()
    alone, _ = TextLoss("coarse", config)(model, part, 0)
    without, _ = TextLoss("coarse", LossConfig())(model, part, 0)
    assert torch.equal(alone.total, without.total)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_without_a_question_has_no_loss(mode):
    model, part = tiny(), batch()
    for name in ("frames", "questions", "before_mask", "after_mask"):
        part.extra[name] = torch.zeros_like(part.extra[name])
    part.extra["labels"] = torch.full_like(part.extra["labels"], -100)
    loss, _ = TextLoss(mode, LossConfig(entropy_floor=1.0))(model, part, 0)
    assert (float(loss.total.detach()), float(loss.count)) == (0.0, 0.0)
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_another_questions_gaze_answers_otherwise_and_an_oracle_needs_the_truth():
    model, whole = tiny(), inputs()
    own, shuffled = model(whole), model(whole, gaze="shuffled")
    torch.testing.assert_close(shuffled.queries[0, 0], own.queries[0, 1])
    assert not torch.allclose(own.logits, shuffled.logits)
    assert model(whole, gaze="oracle", look=True).attention[0][0, 0, 0].max() == 1
    with pytest.raises(ValueError, match="the batch has no truth"):
        model(dataclasses.replace(whole, truth=None), gaze="oracle")


def test_without_frames_the_text_alone_answers():
    model, whole = tiny().double(), inputs()
    blind = dataclasses.replace(whole, frames=torch.zeros_like(whole.frames))
    out = model(blind)
    assert out.logits.isfinite().all()
    other = dataclasses.replace(blind, clips=255 - blind.clips)
    torch.testing.assert_close(model(other).logits, out.logits)


def test_a_learnt_first_query_and_video_first():
    model, whole = tiny(layout="video-first", first_query="learnt"), inputs()
    queries = model(whole).queries[:, :, 0]
    torch.testing.assert_close(queries, model.connector.first_query.expand_as(queries))
    nothing = torch.zeros(2, 2, 0, dtype=torch.int64)
    bare = dataclasses.replace(whole, before=nothing, before_mask=nothing.bool())
    assert model(bare).logits.isfinite().all()
    with pytest.raises(ValueError, match=r"use --model\.first-query learnt"):
        ModelConfig(layout="video-first")


def test_a_tiny_model_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first, state = tiny(), torch.get_rng_state()
    torch.manual_seed(2)
    again = tiny()
    assert torch.equal(state, torch.manual_seed(1).get_state())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.connector.token.weight, tiny(init_seed=1).connector.token.weight)
    assert first.language.embeddings.shape[0] == VOCABULARY
    assert first.encoder.patches(SIZE, SIZE) == (2, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("query", ["deep", "shallow"])
def test_bfloat16_is_near_float32(mode, query):
    model, whole = tiny(query=query), inputs()
    exact = model(whole, mode, look=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(whole, mode, look=True)
        out.losses.sum().backward()
    assert out.losses.dtype == torch.float32
    torch.testing.assert_close(out.losses, exact.losses, rtol=0.1, atol=0.2)
    torch.testing.assert_close(out.attention[0], exact.attention[0], rtol=0.1, atol=0.1)
