"""A tokenizer of whole words, for a language model that starts at random."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # transformers takes seconds
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<|im_start|>", "<|im_end|>"
SPECIAL = [PAD, UNKNOWN, START, END]
"""The first tokens of every vocabulary, in this order."""

# One turn is "<|im_start|> role text <|im_end|>". There is no default system prompt: it would only cost time.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|> ' + message['role'] + ' ' + message['content'] + ' <|im_end|> ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)


def word_tokenizer(texts: Iterable[str], most: int = 8192) -> "PreTrainedTokenizerFast":
    """Make a tokenizer of the words and punctuation marks in texts, with a chat template and an end token.

    The vocabulary depends on the texts alone, not on their order: the most frequent words, and among equals the first
    in the alphabet. Other words become ``<unk>``.

    Args:
        texts: read once.
        most: tokens at most, the special ones included.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    lower = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenize_str(lower.normalize_str(text)))
    words = sorted({"user", "assistant", "system"} | counts.keys(), key=lambda word: (-counts[word], word))
    roles = [word for word in ("user", "assistant", "system") if word not in words[: most - len(SPECIAL)]]
    kept = [*words[: most - len(SPECIAL) - len(roles)], *roles]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *kept])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = lower
    core.pre_tokenizer = split
    core.decoder = decoders.WordPiece(cleanup=True)  # spaces between words, none in front of marks
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, unk_token=UNKNOWN, eos_token=END,
        additional_special_tokens=[START], chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    return tokenizer
