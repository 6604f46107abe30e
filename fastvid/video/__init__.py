"""Clips: probe a file, decode frames exactly, draw a view of them. Knows nothing of torch or of models."""

from fastvid.video.decode import decode
from fastvid.video.errors import DecodeError
from fastvid.video.limits import Limits
from fastvid.video.probe import VideoMetadata, probe
from fastvid.video.view import View, ViewSpec, cut_view, decode_clips, decode_view

__all__ = [
    "DecodeError",
    "Limits",
    "VideoMetadata",
    "View",
    "ViewSpec",
    "cut_view",
    "decode",
    "decode_clips",
    "decode_view",
    "probe",
]
