"""Which decoded frames are kept in memory, and at what size."""

import numpy as np
import pytest

from fastvid.data import FrameCache
from fastvid.video import DecodeError, ViewSpec, decode_view, probe
from tests.video.clips import encode

FIXED = ViewSpec(frames=4, size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0))
DRAWN = ViewSpec(frames=4, size=16)
VIDEO = encode(12)
INFO = probe(VIDEO)  # 12 frames of 64 x 128


@pytest.mark.parametrize(("spec", "bytes_kept"), [(FIXED, 12 * 16 * 16 * 3), (DRAWN, 12 * 64 * 128 * 3)])
def test_a_crop_that_all_views_share_is_kept_instead_of_whole_frames(spec, bytes_kept):
    cache = FrameCache(1 << 20, spec)
    views = [spec.draw("a", 0, draw, INFO) for draw in range(6)]
    assert cache.reserve(INFO, views[0])
    video = cache.put(3, "a", VIDEO, INFO, "pyav")
    assert cache.get(3) is video
    assert cache.get(4) is None
    assert cache.used == bytes_kept == video.frames.nbytes
    for view in views:
        clip = np.empty((4, 16, 16, 3), np.uint8)
        video.cut(view, clip)
        assert np.array_equal(clip, decode_view(VIDEO, view))


def test_it_takes_no_more_than_its_capacity():
    cache, view = FrameCache(int(2.5 * 12 * 16 * 16 * 3), FIXED), FIXED.draw("a", 0, 0, INFO)
    assert [cache.reserve(INFO, view) for _ in range(3)] == [True, True, False]
    cache.release(INFO)
    assert cache.reserve(INFO, view)


def test_a_video_of_which_views_show_little_is_not_kept():
    short = ViewSpec(frames=2, size=16, sampling="stride", stride=1, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert not FrameCache(1 << 20, short).reserve(INFO, short.draw("a", 0, 0, INFO))  # 2 of 12 frames
    longer = ViewSpec(frames=3, size=16, sampling="stride", stride=1, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert FrameCache(1 << 20, longer).reserve(INFO, longer.draw("a", 0, 0, INFO))  # 3 of 12


def test_room_for_a_damaged_video_is_released():
    cache = FrameCache(1 << 20, FIXED)
    assert cache.reserve(INFO, FIXED.draw("a", 0, 0, INFO))
    with pytest.raises(DecodeError):
        cache.put(0, "a", VIDEO[: len(VIDEO) // 2], INFO, "pyav")
    assert cache.used == 0
