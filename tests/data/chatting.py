"""A tokenizer of whole words with a chat template, as the tests of texts need it."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tokenizer(words: str, template: str | None = TEMPLATE, **options) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows these words; a new line is a token of its own."""
    known = ["<pad>", "<|start|>", "<|end|>", "?", "\n", "user", "assistant", "system", *words.split()]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    special = {"pad_token": "<pad>", "unk_token": "?", "eos_token": "<|end|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, additional_special_tokens=["<|start|>"], chat_template=template, **{**special, **options}
    )
