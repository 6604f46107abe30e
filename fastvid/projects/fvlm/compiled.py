"""Parts of the model that are compiled for training.

A step calls the language model's layers dozens of times for few tokens, so that on a GPU most of its time goes by
between the kernels. All layers of a kind share one compiled function, where the whole step would take minutes.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch


class Compiled:
    """A function that ``torch.compile`` compiles for calls with gradients; it runs as it is without them.

    Evaluations and answers have many shapes, and each would be compiled.

    Args:
        function: such as a module's ``forward``.
        cache: name of a keyword argument; with anything but None there the function runs as it is, because what is
            compiled would belong to one layer of the cache.
    """

    def __init__(self, function: Callable[..., Any], cache: str | None = None):
        self.function, self.cache = function, cache
        self.compiled = torch.compile(function)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Compiled":
        return Compiled(copy.deepcopy(self.function, memo), self.cache)  # compiled code would stay the original's

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        cached = self.cache is not None and kwargs.get(self.cache) is not None
        run = self.compiled if torch.is_grad_enabled() and not cached else self.function
        return run(*args, **kwargs)
