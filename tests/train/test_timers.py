"""What a run says of the time it takes."""

from fastvid.train.timers import SlowData


def test_decoding_that_is_the_limit_is_said_once(caplog):
    slow = SlowData()
    for share in (0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9):
        slow.see(share)
    assert caplog.text == ""
    for _ in range(20):
        slow.see(0.8)
    assert len(caplog.records) == 1
    assert "80% of the time is waiting for clips" in caplog.text
    assert "--transcode" in caplog.text
