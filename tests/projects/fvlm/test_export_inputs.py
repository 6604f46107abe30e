"""Inputs of exported models: frames of videos and pictures are those of the evaluation, whatever is in a batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastvid.projects.fvlm.caption import caption
from fastvid.projects.fvlm.hf.video_fvlm import Video
from fastvid.video import ViewSpec, probe
from tests.projects.fvlm.exports import MODES, clip, logits_of, opened, rendered
from tests.projects.fvlm.trained import QUESTION, SIZE, trained
from tests.video.clips import encode


def test_a_picture_is_encoded_once_for_all_its_looks(tmp_path):
    model = trained()
    model.about["image_looks"] = 3
    exported, processor = opened(model, tmp_path / "hf")
    picture = clip(1)
    text = rendered(processor, QUESTION, "image")
    inputs = processor(text=[text], images=[Image.fromarray(picture[0].numpy())], return_tensors="pt")
    assert inputs["pixel_values_videos"].shape[:2] == (1, 1)
    encoded, encode_frames = [], exported.encoder.encode
    exported.encoder.encode = lambda pixels: encoded.append(len(pixels)) or encode_frames(pixels)
    for mode in MODES:
        with torch.no_grad():
            expected = logits_of(model, picture.expand(3, -1, -1, -1), QUESTION, mode)
            found = exported(**inputs, mode=mode).logits[0, -1 - len(expected) : -1, : expected.shape[-1]]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert encoded == [1, 1, 1]


@pytest.mark.parametrize("kinds", [("image", "video", "text"), ("video", "text", "image")])
def test_videos_pictures_and_texts_go_into_one_batch(kinds, tmp_path):
    model = trained()
    model.about["image_looks"] = 3
    exported, processor = opened(model, tmp_path / "hf")
    picture, video = clip(1, 1), clip(4, 2)
    texts = [
        rendered(processor, QUESTION, kind)
        if kind != "text"
        else processor.apply_chat_template(
            [{"role": "user", "content": QUESTION}], add_generation_prompt=True, tokenize=False
        )
        for kind in kinds
    ]
    inputs = processor(
        text=texts, images=[Image.fromarray(picture[0].numpy())], videos=[video.numpy()], return_tensors="pt"
    )
    with torch.no_grad():
        logits = exported(**inputs).logits
        for row, kind in enumerate(kinds):
            if kind == "text":
                continue
            expected = logits_of(model, video if kind == "video" else picture.expand(3, -1, -1, -1), QUESTION, "stream")
            found = logits[row, -1 - len(expected) : -1, : expected.shape[-1]]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


VIEWS = {
    "span": (ViewSpec(frames=5, size=24), None),
    "max_fps": (ViewSpec(frames=16, size=24, crop=0.8), 3.0),
    "stride": (ViewSpec(frames=3, size=24, sampling="stride", stride=4), None),
    "fps": (ViewSpec(frames=4, size=24, sampling="fps", fps=5.0), None),
}
FILES = {
    "plain": {},
    "turned": {"rotation": 90},
    "uneven": {"times": [0, 40, 500, 520, 900, 1000, 1300, 1350, 1360, 1400, 1900, 2000]},
    "webm": {"codec": "libvpx-vp9", "container": "webm"},
}


@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_frames_of_a_video_are_those_of_the_evaluation(views, file):
    spec, max_fps = views
    data = encode(12, coloured=True, **file)
    model = trained(views=spec, max_fps=max_fps)
    expected = np.stack([frame.numpy() for frame in caption(model, data, probe(data))._watch()])
    options = {name: getattr(spec, name) for name in ("frames", "size", "crop", "sampling", "stride", "fps")}
    found = Video(data).frames({**options, "max_fps": max_fps})
    assert np.array_equal(found, expected)


def test_bad_input_is_refused_in_one_sentence(tmp_path):
    exported, processor = opened(trained(), tmp_path / "hf")
    text, frames = rendered(processor, QUESTION), clip(2).numpy()
    for message, call in {
        "asks for a video": lambda: processor(text=text),
        "there is a video more": lambda: processor(text=text, videos=[frames, frames]),
        "asks for a picture": lambda: processor(text=rendered(processor, QUESTION, "image"), videos=[frames]),
        "one video or picture": lambda: processor(text=text + text, videos=[frames, frames]),
        "uint8": lambda: processor(text=text, videos=[frames / 255.0]),
        "no option fast=True": lambda: processor(text=text, videos=[frames], fast=True),
        "no option padding=False": lambda: processor(text=text, videos=[frames], padding=False),
        "no mode 'slow'": lambda: exported(input_ids=torch.tensor([[1]]), mode="slow"),
        "give the frames": lambda: exported(input_ids=torch.tensor([[exported.config.frame_token_id]])),
        "3 frame tokens": lambda: exported(
            input_ids=torch.full((1, 3), exported.config.frame_token_id),
            pixel_values_videos=torch.zeros(1, 2, 3, SIZE, SIZE),
        ),
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    processor.views["max_fps"] = 2.0
    with pytest.raises(ValueError, match="video_metadata"):
        processor(text=text, videos=[frames])
    assert processor(text=text, videos=[frames], video_metadata=[{"fps": 1.0}])["input_ids"].shape[0] == 1


def test_all_frames_are_read_where_none_are_to_be_chosen(tmp_path):
    _, processor = opened(trained(), tmp_path / "hf")
    text = rendered(processor, QUESTION)
    for frames, options in ((4, {}), (7, {"do_sample_frames": False}), (3, {"num_frames": 3})):
        found = processor(text=text, videos=[clip(7).numpy()], return_tensors="pt", **options)
        assert found["pixel_values_videos"].shape[1] == frames
    assert len(Video(encode(12, coloured=True), sample=False).frames({"size": 24})) == 12
