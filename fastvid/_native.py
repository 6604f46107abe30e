"""The native core (``fastvid/_C``), or the reason why there is none.

It is loaded here, after torch, so that it shares torch's OpenMP runtime and obeys ``torch.set_num_threads``. Loading
probes no driver: whether a GPU can be used is torch's to say.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import torch

# Codes of csrc/common.h: what kernels read and write.
DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
INT8_CODE, UINT8_CODE = 3, 4


def _load() -> tuple[ModuleType | None, str]:
    if importlib.util.find_spec("fastvid._C") is None:
        return None, "fastvid has no native core built for this Python (FASTVID_NATIVE=0, or not installed)"
    try:
        return importlib.import_module("fastvid._C"), ""
    except ImportError as error:
        return None, f"fastvid's native core does not load: {error}; reinstall with `pip install -e .`"


# Plain values, decided once: code traced by torch.compile reads them as constants.
CORE: Any  # the extension module, or None
CORE, MISSING_REASON = _load()
BUILD_INFO: dict = CORE.build_info() if CORE is not None else {}
HAS_CUDA_KERNELS: bool = bool(BUILD_INFO.get("cuda"))  # compiled in; says nothing about a GPU being present
