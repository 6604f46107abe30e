"""Figures fail a test under a compiler whose figures are recorded, and are reported under any other."""

import json

import pytest

from tests.ahead_of_time.resources import Resources, Usage

KNOWN, OTHER = "triton 3.9.0, ptxas 13.4", "triton 9.9.9, ptxas 99.0"
ROW = {"sm_80": [64, 1024], "sm_90": [32, 2048]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "resources.json"
    path.write_text(json.dumps({KNOWN: {"kernel": ROW}}))
    return path


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (Usage(65, 1024, 0), "65 registers, 64 allowed"),
        (Usage(64, 1025, 0), "1025 shared bytes, 1024 allowed"),
        (Usage(64, 1024, 8), "spills 8 bytes"),
    ],
)
def test_more_than_recorded_fails_under_that_compiler_and_is_reported_under_another(path, usage, said):
    with pytest.raises(AssertionError, match=said):
        Resources(path).judge(KNOWN, "kernel", {"sm_80": usage})
    figures = rf"sm_80 takes {usage.registers} registers \(64\), {usage.shared} shared bytes \(1024\)"
    with pytest.warns(UserWarning, match=f"does not have {OTHER}.*{figures} and spills {usage.spilled}"):
        Resources(path).judge(OTHER, "kernel", {"sm_80": usage})


def test_no_more_than_recorded_passes_and_another_compiler_is_still_said(path):
    usage = {"sm_80": Usage(64, 1024, 0), "sm_90": Usage(31, 0, 0)}
    Resources(path).judge(KNOWN, "kernel", usage)
    with pytest.warns(UserWarning, match="fail no test. This kernel takes no more"):
        Resources(path).judge(OTHER, "kernel", usage)


def test_a_kernel_without_figures_fails_and_an_architecture_without_them_is_reported(path):
    usage = Usage(64, 1024, 0)
    with pytest.raises(AssertionError, match="write it anew"):
        Resources(path).judge(KNOWN, "another kernel", {"sm_80": usage})
    with pytest.warns(UserWarning, match="no figures of kernel for sm_86"):
        Resources(path).judge(KNOWN, "kernel", {"sm_86": usage})


def test_figures_of_a_new_compiler_are_added_to_those_of_others(path):
    resources = Resources(path, update=True)
    resources.judge(OTHER, "kernel", {"sm_80": Usage(70, 512, 0)})
    resources.save()
    assert json.loads(path.read_text()) == {KNOWN: {"kernel": ROW}, OTHER: {"kernel": {"sm_80": [70, 512]}}}
    with pytest.raises(AssertionError, match="spills 4 bytes"):
        resources.judge(OTHER, "kernel", {"sm_80": Usage(70, 512, 4)})
