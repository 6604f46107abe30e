"""The choice of launches: the table's row for an architecture and a class of shapes, else the default."""

import json

import pytest
import torch

from fastvid.ops import _launch
from fastvid.ops._launch import choose_launch, choosing, options

DEFAULT, OTHER = {"BLOCK": 1024, "num_warps": 4}, {"BLOCK": 2048, "num_warps": 8}
KERNEL = options("a_kernel", "2 bytes", [DEFAULT, OTHER, dict(DEFAULT)])
HOPPER = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _table(monkeypatch):
    table = {"sm_90": {"a_kernel": {"2 bytes": {"launch": OTHER, "us": 1.0}}}}
    monkeypatch.setattr(_launch, "table", lambda: table)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: {0: (9, 0), 1: (8, 9)}[index])
    _launch._architecture.cache_clear()
    yield
    _launch._architecture.cache_clear()


def test_the_same_launch_is_one_option():
    assert KERNEL.launches == (DEFAULT, OTHER)


def test_a_row_of_the_architecture_and_the_class_replaces_the_default():
    assert choose_launch(KERNEL, HOPPER) == OTHER
    assert choose_launch(KERNEL, torch.device("cuda", 1)) == DEFAULT  # another architecture
    assert choose_launch(KERNEL._replace(shape="4 bytes"), HOPPER) == DEFAULT
    assert choose_launch(KERNEL._replace(kernel="another"), HOPPER) == DEFAULT
    assert choose_launch(KERNEL, torch.device("cpu")) == DEFAULT
    assert choose_launch(KERNEL, torch.device("meta")) == DEFAULT


def test_inside_a_block_another_chooses():
    with choosing(lambda found: found.launches[-1]):
        assert choose_launch(KERNEL, torch.device("cpu")) == OTHER
        with choosing(lambda found: found.launches[0]):
            assert choose_launch(KERNEL, HOPPER) == DEFAULT
        assert choose_launch(KERNEL, torch.device("cpu")) == OTHER
    with pytest.raises(RuntimeError, match="a test"), choosing(lambda found: found.launches[-1]):
        raise RuntimeError("a test")
    assert choose_launch(KERNEL, torch.device("cpu")) == DEFAULT


@pytest.mark.parametrize(
    "content",
    ["not json", "[]", '{"sm_90": 1}', '{"sm_90": {"k": {"s": {}}}}', '{"sm_90": {"k": {"s": {"launch": {}}}}}',
     '{"sm_90": {"k": {"s": {"launch": {"BLOCK": "2"}}}}}', '{"sm_90": {"k": {"s": {"launch": {"BLOCK": true}}}}}'],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused(content, tmp_path):
    path = tmp_path / "launches.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"launches.json is .*python -m benchmarks.tune"):
        _launch.read(path)


def test_the_packages_table_is_installed_and_read():
    assert _launch.read(_launch.PATH) == json.loads(_launch.PATH.read_text())
