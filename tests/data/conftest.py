import pytest

from tests.video.clips import encode


@pytest.fixture
def folder(tmp_path):
    """Twenty videos of twelve frames, 00.mp4 to 19.mp4."""
    video = encode(12)
    for i in range(20):
        (tmp_path / f"{i:02d}.mp4").write_bytes(video)
    return tmp_path
