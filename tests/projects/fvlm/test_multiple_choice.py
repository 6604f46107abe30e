"""Log-likelihoods of options: what the model gives each of them alone, for one encoding of the frames."""

from dataclasses import replace

import pytest
import torch

from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.multiple_choice import BLIND, Prompt, score
from tests.projects.fvlm.batches import END, batch, rows, tiny

MODES = ("coarse", "parallel", "stream")
# Of different lengths, one token among them; the second clip has one question.
PROMPTS = [
    [Prompt([5, 6], [1, 2], [[10, 11, END], [12, END], [7]]), Prompt([7, 8, 9], [1], [[10], [4, 4, 4], [13, END]])],
    [Prompt([5], [1, 2], [[10, END], [11, END]])],
]


ONE_EACH = [row[:1] for row in PROMPTS]


def literally(model, inputs, condition, prompts=PROMPTS):
    """Every option alone, as a batch of its own with its video encoded anew: the model's losses over its tokens."""
    found = {}
    for clip, asked in enumerate(prompts):
        for question, prompt in enumerate(asked):
            for number, option in enumerate(prompt.options):
                before, before_mask = rows([prompt.before], left=True)
                after, after_mask = rows([[*prompt.front, *option]], left=False)
                labels = torch.where(torch.arange(after.shape[1]) < len(prompt.front), -100, after)
                shown = 0 if condition == BLIND else inputs.frames.shape[1]
                alone = Inputs(
                    inputs.clips[clip : clip + 1, :shown], inputs.frames[clip : clip + 1, :shown],
                    torch.ones(1, 1, dtype=torch.bool), *(x[None] for x in (before, before_mask, after, after_mask)),
                    labels[None],
                )  # fmt: skip
                with torch.no_grad():
                    out = model(alone, "coarse" if condition == BLIND else condition)
                found[clip, question, number] = float(-out.losses.double().sum()), bool(out.right.all()), len(option)
    return found


@pytest.mark.parametrize("prompts", [PROMPTS, ONE_EACH])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"iterations": 3}, {"layout": "video-first", "first_query": "learnt"},
        {"marks": True, "aim": "frames", "first_query": "learnt"},
        {"marks": True, "aim": "frames", "first_query": "learnt", "layout": "video-first", "iterations": 2},
    ],
)  # fmt: skip
def test_every_option_has_the_likelihood_that_the_model_gives_it_alone(options, prompts, monkeypatch):
    model, inputs = tiny(**options), Inputs.of(batch())
    encoded = []
    encode = model.encoder.encode
    monkeypatch.setattr(model.encoder, "encode", lambda clips: encoded.append(tuple(clips.shape[:2])) or encode(clips))
    scores = score(model, inputs.clips, inputs.frames, prompts, (*MODES, BLIND))
    assert encoded == [(2, 3)]  # once for all options, modes and questions
    assert list(scores) == [*MODES, BLIND]
    for condition, found in scores.items():
        expected = literally(model, inputs, condition, prompts)
        there = [tuple(place) for place in (found.tokens > 0).nonzero().tolist()]
        assert there == sorted(expected)
        for place, (total, greedy, tokens) in expected.items():
            assert float(found.total[place]) == pytest.approx(total, rel=1e-4, abs=1e-4)
            assert bool(found.greedy[place]) == greedy
            assert int(found.tokens[place]) == tokens
        assert bool((found.total[found.tokens == 0] == -torch.inf).all())
        if condition != BLIND:  # the same without the other conditions
            alone = score(model, inputs.clips, inputs.frames, prompts, (condition,))[condition]
            torch.testing.assert_close(alone.total, found.total, rtol=1e-5, atol=1e-5)


def test_what_is_in_front_of_the_answers_is_read_once_in_each_mode(monkeypatch):
    model, inputs = tiny(), Inputs.of(batch())
    read = []
    decoder = model.language.model.get_decoder()
    forward = decoder.forward

    def counted(*arguments, **options):
        read.append(tuple(options["inputs_embeds"].shape[:2]))
        return forward(*arguments, **options)

    monkeypatch.setattr(decoder, "forward", counted)
    four = [[replace(prompt, options=[[10 + n, END] for n in range(4)]) for prompt in row] for row in PROMPTS]
    score(model, inputs.clips, inputs.frames, four, ("coarse",))
    # Text in front, the frames with the text behind them, one more token of each of 4 options of 3 questions.
    assert read == [(4, 3), (4, 3 + 2), (12, 1)]
    read.clear()
    letters = [[replace(prompt, options=[[10], [11], [12], [13]]) for prompt in row] for row in PROMPTS]
    score(model, inputs.clips, inputs.frames, letters, ("coarse",))
    assert read == [(4, 3), (4, 3 + 2)]  # letters need no more than one look at the logits


def test_keys_that_are_known_are_not_computed_again(monkeypatch):
    model, inputs = tiny(), Inputs.of(batch())
    keys = model.encode(inputs.clips)
    before = score(model, inputs.clips, inputs.frames, PROMPTS, ("stream",))
    monkeypatch.setattr(model.encoder, "encode", lambda clips: pytest.fail("encoded again"))
    after = score(model, inputs.clips, inputs.frames, PROMPTS, ("stream",), keys=keys)
    assert torch.equal(before["stream"].total, after["stream"].total)
    with pytest.raises(ValueError, match=r"no conditions \['sideways'\]"):
        score(model, inputs.clips, inputs.frames, PROMPTS, ("sideways",), keys=keys)


def test_likelihoods_are_exact_where_the_passes_are_not():
    """In bfloat16 logits have eight bits, and options would tie."""
    model, inputs = tiny(), Inputs.of(batch())
    with torch.autocast("cpu", torch.bfloat16):
        found = score(model, inputs.clips, inputs.frames, PROMPTS, ("stream",))["stream"]
    exact = score(model, inputs.clips, inputs.frames, PROMPTS, ("stream",))["stream"]
    total = found.total[found.tokens > 0]
    assert total.dtype == torch.float32
    assert not torch.equal(total, total.bfloat16().float())
    torch.testing.assert_close(total, exact.total[found.tokens > 0], rtol=0.05, atol=0.1)
    head = model.language.model.get_output_embeddings().weight.data
    head[11] = (1 + 2**-12) * head[10]
    letters = [[Prompt([5], [1], [[10], [11]])]]
    with torch.autocast("cpu", torch.bfloat16):
        near = score(model, inputs.clips[:1], inputs.frames[:1], letters, ("stream",))["stream"].total
    assert float(near[0, 0, 0]) != float(near[0, 0, 1])
