"""The option that names blocks of an encoder. It imports no model code, so that options are read without it."""

from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

from fastvid.ranges import Range


def parse_blocks(text: str) -> tuple[int, ...]:
    """Read numbers of blocks, separated by commas, as in 3,6,9,12; ``last``, or nothing, is the last block alone,
    ().

    Raises:
        ValueError: the text is something else.
    """
    if text in ("", "last"):
        return ()
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of block numbers such as 3,6,9,12") from None


def name_blocks(layers: tuple[int, ...]) -> str:
    """Return the text that :func:`parse_blocks` reads. It is the ``layer`` of a latent cache's manifest."""
    return ",".join(map(str, layers)) if layers else "last"


BlockNumbers = Annotated[
    tuple[Annotated[int, Range(1)], ...],
    PrimitiveConstructorSpec(
        nargs="*",  # a list in a file of options comes as one text for each number
        metavar="N,N,...",
        instance_from_str=lambda texts: parse_blocks(",".join(texts)),
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(number, int) for number in value),
        str_from_instance=lambda layers: [name_blocks(layers)],
    ),
]
"""Numbers of an encoder's blocks, the first is 1, separated by commas; none for the last block alone."""
