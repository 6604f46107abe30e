"""The one exception of the video package."""

from typing import Literal

Reason = Literal[
    "read",  # the bytes could not be read
    "checksum",  # the bytes are not those that were indexed
    "container",  # not a container we decode, or its header is broken
    "no_video",  # no video stream
    "codec",  # FFmpeg as built into PyAV has no decoder for it
    "truncated",  # the file ends before its container says
    "corrupt",  # the decoder gave up or flagged a frame
    "frame_count",  # frames that should be there are missing
    "limit",  # larger than the limits allow
    "text",  # what is written about it cannot be used
    "unsupported",  # not for the chosen decoder, though PyAV may well decode it
]


class DecodeError(Exception):
    """A video that cannot be used, and why.

    Attributes:
        reason: one of the codes of :data:`Reason`, for counting and filtering.
        detail: description of the fault, with numbers.
    """

    def __init__(self, reason: Reason, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self):  # both arguments survive the trip between processes
        return DecodeError, (self.reason, self.detail)
