"""Conversations as data sets write them, as token ids around the visual tokens, and as batches."""

import numpy as np
import pytest

from fastvid.data.text.chat import IGNORED, ChatFormat
from fastvid.data.text.conversation import Conversation, TextChoice, Turn, chosen, conversations_of
from fastvid.data.text.rows import ClipText, TextCollator
from fastvid.video import DecodeError
from tests.data.chatting import TEMPLATE, tokenizer

TOKENS = tokenizer("what is this a cat really yes it be brief")


def _llava(*texts: str) -> list[dict[str, str]]:
    return [{"from": "gpt" if number % 2 else "human", "value": text} for number, text in enumerate(texts)]


def test_every_form_of_conversation_is_read():
    one = Conversation((Turn("what is this", "a cat"), Turn("really", "yes")))
    assert conversations_of({"conversations": _llava("<video>\nwhat is this", " a cat", "really", "yes\n")}) == [one]
    openai = [{"role": "user", "content": "what is this"}, {"role": "assistant", "content": "a cat"}]
    short = Conversation((Turn("what is this", "a cat"),))
    assert conversations_of({"conversations": openai}) == [short]
    assert conversations_of({"question": "what is this", "answer": "a cat"}) == [short]
    assert conversations_of({"user": "what is this <image>", "assistant": "a cat"}) == [short]
    several = {"conversations": [_llava("what is this", "a cat"), _llava("really", "yes")], "gaze": [[1, 2], [3, -1]]}
    assert [c.gaze for c in conversations_of(several)] == [(1, 2), (3, -1)]
    system = [{"from": "system", "value": "be brief"}, *_llava("what is this", "a cat")]
    assert conversations_of({"conversations": system}) == [Conversation(short.turns, "be brief")]
    answer = {"conversations": [{"from": "gpt", "value": "a cat"}]}  # a caption in the form of a conversation
    assert conversations_of(answer, None, "what is this") == [short]
    assert conversations_of({}, " a cat ", "what is this") == conversations_of(
        {"caption": "a cat"}, None, "what is this"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "neither conversations nor question and answer nor caption"),
        ({"conversations": []}, "not a list of turns"),
        ({"conversations": _llava("what is this")}, "turn 1 of a conversation: a question and its answer"),
        ({"conversations": _llava("a", "b", "c")}, "turn 3 of a conversation"),
        ({"conversations": [{"from": "gpt", "value": "a cat"}] * 3}, "there is gpt and gpt"),
        ({"conversations": [{"from": "human"}]}, "not a list of turns"),
        ({"conversations": _llava("<video>\n", "a cat")}, "a question is empty"),
        ({"conversations": _llava("what", " ")}, "an answer is empty"),
        ({"conversations": [{"from": "system", "value": "be brief"}]}, "no question and answer"),
        ({"question": "what", "answer": "a cat", "gaze": [[1], [2]]}, "not a list of cells for each of 1"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_sentence(fields, sentence):
    with pytest.raises(DecodeError, match=sentence) as error:
        TextChoice().take(fields, None, "key", 0)
    assert error.value.reason == "text"
    assert "\n" not in str(error.value)


def test_the_choice_of_conversations_is_a_function_of_key_seed_and_epoch():
    assert chosen(3, 4, "a", 0, 0) == [0, 1, 2]
    picks = [
        chosen(9, 4, key, seed, epoch) for key, seed, epoch in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]
    ]
    assert len({tuple(pick) for pick in picks}) == 4
    assert picks[0] == chosen(9, 4, "a", 0, 0)
    assert all(len(set(pick)) == 4 and set(pick) <= set(range(9)) for pick in picks)
    counts = np.bincount([n for epoch in range(900) for n in chosen(9, 4, "a", 0, epoch)])
    assert counts.min() > 340  # 400 are expected of each
    assert counts.max() < 460


@pytest.mark.parametrize("system", [None, "be brief"])
@pytest.mark.parametrize("layout", ["question-first", "video-first"])
def test_a_row_is_what_the_template_says_cut_at_the_video(layout, system):
    turns = (Turn("what is this", "a cat"), Turn("really", "yes it is"))
    row = ChatFormat(TOKENS, layout, system).row(Conversation(turns))
    messages = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    whole = TOKENS.apply_chat_template(messages, tokenize=False)
    assert row.before + row.after == TOKENS.encode(whole, add_special_tokens=False)
    first = TOKENS.decode(row.before).split()
    assert first[-1] == ("this" if layout == "question-first" else "user")
    learnt = [TOKENS.decode([label]) for label in row.labels if label != IGNORED]
    assert learnt == ["a", "cat", "<|end|>", "yes", "it", "is", "<|end|>"]
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.after, strict=True))


# The forms of SmolLM2 (an instruction of its own), of Llama 2 (marks around the question, roles not named) and of a
# template that puts something in front of the last answer alone.
_TEMPLATES = {
    "default system": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
        "<|start|>system\nbe brief<|end|>\n{% endif %}"
        "<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    ),
    "end token by name": (
        "{% for m in messages %}{% if m['role'] == 'user' %}? {{ m['content'].strip() }} ?"
        "{% else %} {{ m['content'].strip() }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    "before the last answer": (
        "{% for m in messages %}<|start|>{{ m['role'] }}\n{% if loop.last %}be brief\n{% endif %}"
        "{{ m['content'] }}<|end|>\n{% endfor %}"
    ),
}


@pytest.mark.parametrize("template", _TEMPLATES.values(), ids=_TEMPLATES)
def test_templates_of_other_families_are_followed(template):
    tokens = tokenizer("what is this a cat really yes it be brief", template)
    chat = ChatFormat(tokens)
    turns = (Turn("what is this", "a cat"), Turn("really", "yes it is"))
    row = chat.row(Conversation(turns))
    roles = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), (turn.question, turn.answer), strict=True)
    ]
    whole = tokens.encode(tokens.apply_chat_template(roles, tokenize=False), add_special_tokens=False)
    assert row.before + row.after == whole
    learnt = [tokens.decode([label]) for label in row.labels if label != IGNORED]
    assert learnt == ["a", "cat", "<|end|>", "yes", "it", "is", "<|end|>"]


def test_generation_begins_where_training_says_the_answer_begins():
    chat = ChatFormat(TOKENS)
    row = chat.row(Conversation((Turn("what is this", "a cat"),)))
    before, after = chat.prompt("what is this")
    assert before == row.before
    assert after == row.after[: len(after)]
    assert row.labels[len(after) - 1] == IGNORED != row.labels[len(after)]
    assert chat.end_ids == {TOKENS.eos_token_id}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"template": None}, "has no chat template"),
        ({"eos_token": None}, "has no end token"),
        ({"template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"}, "holds no special token"),
        ({"template": "{{ messages[0]['content'] }}<|end|>"}, "does not show every text"),
    ],
)
def test_tokenizers_that_do_not_fit_are_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        ChatFormat(tokenizer("a", **{"template": TEMPLATE, **options}))


def test_padding_without_a_padding_token_is_the_end_token_and_the_end_is_learnt_all_the_same():
    chat = ChatFormat(tokenizer("what a cat", pad_token=None))
    made = TextCollator(chat, TextChoice(questions=2))([ClipText([Conversation((Turn("what", "a cat"),))], (0, 1))], 2)
    assert chat.pad == chat.tokenizer.eos_token_id
    assert made["labels"][0, 0][made["after_mask"][0, 0]].tolist().count(chat.pad) == 1
    assert not (made["labels"][0, 0][~made["after_mask"][0, 0]] != IGNORED).any()


def test_a_batch_is_padded_to_static_shapes_and_the_masks_say_what_is_real():
    chat = ChatFormat(TOKENS)
    long, short = Conversation((Turn("what " * 20, "yes"),), gaze=(4, 5, 6)), Conversation((Turn("what", "a cat"),))
    clips = [
        ClipText([long, short], (0, 2, 2, 2)),  # a video of two frames
        ClipText([long], (1, 2, 7, 9), whole=False),
        ClipText([], ()),
    ]
    made = TextCollator(chat, TextChoice(questions=3))(clips, 4)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.items()}
    assert shapes["frames"] == (3, 4)
    assert shapes["before"] == shapes["before_mask"] == (3, 3, 24)
    assert shapes["after"] == shapes["after_mask"] == shapes["labels"] == (3, 3, 12)
    assert made["frames"].tolist() == [[True, True, False, False], [True] * 4, [False] * 4]
    assert made["questions"].tolist() == [[True, True, False], [True, False, False], [False] * 3]
    assert made["truth"][0].tolist() == [[4, 6, -1, -1], [-1] * 4, [-1] * 4]
    assert (made["truth"][1:] == -1).all()  # of a crop it is not known
    for c, clip in enumerate(clips):
        for s, conversation in enumerate(clip.conversations):
            row = chat.row(conversation)
            assert made["before"][c, s][made["before_mask"][c, s]].tolist() == row.before
            assert made["before_mask"][c, s, -1]
            assert made["after"][c, s][made["after_mask"][c, s]].tolist() == row.after
            assert made["after_mask"][c, s, 0]
            assert made["labels"][c, s, : len(row.labels)].tolist() == row.labels
    unused = ~made["questions"]
    assert not made["before_mask"][unused].any()
    assert (made["labels"][unused] == IGNORED).all()


def test_too_long_texts_are_cut_and_counted():
    collate = TextCollator(ChatFormat(TOKENS), longest=10)
    made = collate([ClipText([Conversation((Turn("what " * 30, "yes " * 30),))], (0,))], 1)
    assert made["before"].shape == made["after"].shape == (1, 1, 10)
    assert made["before"][0, 0].tolist() == [TOKENS.convert_tokens_to_ids("what")] * 10
    assert collate.cut == 1
