"""Which implementation runs where, on GPUs that need not be here."""

import warnings

import pytest
import torch

from fastvid import _native
from fastvid.ops import _dispatch, gather_tokens


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of a given compute capability; the build's CUDA kernels are there or not."""

    def pretend(capability: tuple[int, int], archs: str | None = "80-real 89-real 90-real 100-real 120", triton=True):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(_native, "CORE", object())
        monkeypatch.setattr(_native, "HAS_CUDA_KERNELS", archs is not None)
        monkeypatch.setattr(_native, "BUILD_INFO", {"cuda_archs": archs})
        monkeypatch.setattr(_dispatch, "HAS_TRITON", triton)
        monkeypatch.setattr(_dispatch, "_warned", set())

    return pretend


def choose(op: str, backend="auto") -> str:
    return _dispatch.choose_for(op, "cuda", 0, backend)


def test_the_native_kernel_is_taken_where_there_is_one_and_triton_elsewhere(gpu):
    gpu((8, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose("multiblock_mask") == "native"
        assert choose("gather_tokens") == "triton"


@pytest.mark.parametrize(
    ("capability", "archs", "reason"),
    [
        ((8, 9), None, "built without nvcc"),
        ((9, 0), "80-real 89-real", "no kernel image for sm_90"),
    ],
)
def test_a_missing_cuda_kernel_falls_to_triton_with_one_warning(gpu, capability, archs, reason):
    gpu(capability, archs)
    with pytest.warns(UserWarning, match=reason):
        assert choose("multiblock_mask") == "triton"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose("multiblock_mask") == "triton"
        assert choose("gather_tokens") == "triton"  # which is its kernel: nothing to warn of
    with pytest.raises(RuntimeError, match=reason):
        choose("multiblock_mask", "native")


@pytest.mark.parametrize(
    ("capability", "triton", "reason"),
    [((7, 5), True, "this GPU is sm_75"), ((8, 9), False, "triton is not installed")],
)
def test_without_any_kernel_the_reference_runs_with_a_warning(gpu, capability, triton, reason):
    gpu(capability, None, triton)
    with pytest.warns(UserWarning, match=reason):
        assert choose("gather_tokens") == "reference"
    with pytest.raises(RuntimeError, match=reason):
        choose("gather_tokens", "triton")


def test_other_devices_run_the_reference():
    with pytest.warns(UserWarning, match="plain PyTorch on mps"):
        assert _dispatch.choose_for("gather_tokens", "mps", None, "auto") == "reference"


@pytest.mark.skipif(_dispatch.INTERPRETED, reason="kernels are interpreted on the CPU")
def test_triton_on_a_cpu_says_what_it_needs():
    with pytest.raises(RuntimeError, match="needs a GPU, or Triton's interpreter"):
        _dispatch.choose("gather_tokens", torch.device("cpu"), "triton")


@pytest.mark.parametrize(
    ("archs", "capability", "loads"),
    [
        ("80-real 89-real 90-real 100-real 120", (8, 6), True),  # sm_80's code
        ("80-real 89-real 90-real 100-real 120", (12, 1), True),
        ("80-real 89-real 90-real 100-real 120", (13, 0), True),  # from the PTX of sm_120
        ("80-real 89-real 90", (12, 0), True),
        ("80-real 89-real", (9, 0), False),
        ("89-real", (8, 6), False),
        ("90a-real", (10, 0), False),
        ("80-virtual", (8, 0), True),
        ("100", (9, 0), False),
    ],
)
def test_which_gpus_a_build_runs_on(archs, capability, loads):
    reason = _dispatch.why_no_image(archs, capability)
    assert (reason is None) == loads
    assert loads or f"sm_{capability[0]}{capability[1]}" in reason


def test_the_choice_is_a_constant_to_the_compiler(monkeypatch):
    """It warns and, for a GPU, asks the driver: neither can be traced, and neither breaks the graph."""
    monkeypatch.setattr(_native, "CORE", None)
    monkeypatch.setattr(_native, "MISSING_REASON", "it was not built")
    monkeypatch.setattr(_dispatch, "HAS_TRITON", False)
    monkeypatch.setattr(_dispatch, "_warned", set())
    torch.compiler.reset()
    x, index = torch.randn(2, 4, 3), torch.tensor([[2, 0], [1, 3]])
    with pytest.warns(UserWarning, match="plain PyTorch on cpu"):
        got = torch.compile(gather_tokens, fullgraph=True, dynamic=True, backend="eager")(x, index)
    assert torch.equal(got, x.gather(1, index.unsqueeze(-1).expand(-1, -1, 3)))


@pytest.mark.parametrize(
    ("version", "number", "fault"), [("3.6.0", False, True), ("3.6.0", True, False), ("3.8.0", False, False)]
)
def test_an_interpreter_that_the_numpy_here_breaks_is_named(monkeypatch, version, number, fault):
    interpreter = pytest.importorskip("fastvid.ops._interpreter")
    monkeypatch.setattr(interpreter.triton, "__version__", version)
    monkeypatch.setattr(interpreter, "_one_element_is_a_number", lambda: number)
    found = interpreter.why_not.__wrapped__()
    assert found is None or "numpy<2.4" in found
    assert (found is not None) == fault
