"""Multiple-choice questions in the layouts of MVBench, Video-MME and NExT-QA, and the videos that they are about."""

import json

import numpy as np
import pytest

from fastvid.data import Sample
from fastvid.data.loader.decode_ahead import decode_sample
from fastvid.data.loader.spans import SpanEvaluation
from fastvid.data.source import fields_of, origin_of
from fastvid.data.sources.choices import lists_of_choices, open_choices
from fastvid.data.text.choices import read_choices
from fastvid.video import ViewSpec
from tests.video.clips import encode

VIDEO_MME = {
    "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "History",
    "url": "https://www.youtube.com/watch?v=fFj-_3ACGo8&t=1", "videoID": "fFj-_3ACGo8", "question_id": "001-1",
    "task_type": "Counting Problem", "question": "How many?", "options": ["A. One.", "B. Two.", "C. Three.", "D. All."],
    "answer": "C",
}  # fmt: skip
NEXT_QA = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def mvbench(folder):
    """Two of MVBench's lists, of which one has parts of videos, and videos of the same name in two collections."""
    write(folder, "json/moving_count.json", [
        {"video": "video_1.mp4", "question": "How many?", "candidates": ["3", "1", "2"], "answer": "1"},
        {"video": "video_2.mp4", "question": "How many move?", "candidates": ["3", "4"], "answer": "4"},
    ])  # fmt: skip
    write(folder, "json/action_sequence.json", [
        {"video": "AB.mp4", "question": "What then?", "candidates": ["The cup.", "The bag."], "answer": "The bag.",
         "question_id": "x", "start": 0.4, "end": 0.8},
        {"video": "AB.mp4", "question": "What first?", "candidates": ["It fell.", "It rose."], "answer": "It fell.",
         "start": 0.0, "end": 0.2},
    ])  # fmt: skip
    write(folder, "video/clevrer/video_validation/video_1.mp4", encode(4))
    write(folder, "video/perception/videos/video_1.mp4", encode(3))
    write(folder, "video/star/Charades_v1_480/AB.mp4", encode(40))
    return folder


def test_mvbench_as_it_is_unpacked(tmp_path):
    lists = lists_of_choices(mvbench(tmp_path))
    assert [path.stem for path in lists] == ["action_sequence", "moving_count"]
    source = open_choices(lists)
    assert [sample.key for sample in source.samples] == [
        "video/clevrer/video_validation/video_1.mp4", "video/star/Charades_v1_480/AB.mp4#t=0,0.2",
        "video/star/Charades_v1_480/AB.mp4#t=0.4,0.8",
    ]  # fmt: skip
    ((counted,), (first,), (then,)) = source.choices
    assert (counted.options, counted.answer, counted.groups) == (("3", "1", "2"), 1, ("moving_count",))
    assert (first.options[first.answer], then.options[then.answer]) == ("It fell.", "The bag.")
    (note,) = source.notes
    assert note == ("left out: 1 of 4 questions, whose videos are not there, such as video_2.mp4 (moving_count: 1)")
    assert lists_of_choices(lists[0]) == lists[:1]
    assert len(open_choices(lists[:1]).samples) == 2  # a list alone finds the videos of the whole


def test_segments_are_cut_already(tmp_path):
    mvbench(tmp_path)
    (tmp_path / "video/star/Charades_v1_480").rename(tmp_path / "video/star/Charades_segment")
    source = open_choices([tmp_path / "json" / "action_sequence.json"])
    assert [sample.key for sample in source.samples] == ["video/star/Charades_segment/AB.mp4"]
    assert source.spans == {}
    assert len(source.choices[0]) == 2


def test_only_the_part_that_is_asked_about_is_shown(tmp_path):
    source = open_choices(lists_of_choices(mvbench(tmp_path)))
    draws = SpanEvaluation(ViewSpec(frames=4, size=64), spans=source.spans)
    whole, first, then = (decode_sample(draws, source, index) for index in range(3))
    assert whole.frames == [(0, 1, 2, 3)]
    assert first.frames == [(0, 2, 3, 5)]  # of the frames 0 to 5, at 25 a second
    assert then.frames == [(11, 14, 16, 19)]  # of the frames 10 to 20
    # The centre square shows four of the eight bars: bits 2 to 5 of the frame's number.
    bars = then.pixels[0][:, 32, 8::16, 1] > 127
    assert (bars @ (1 << np.arange(4))).tolist() == [frame >> 2 & 15 for frame in then.frames[0]]


@pytest.mark.parametrize(
    ("span", "frames"),
    [((0.0, 0.001), [0]), ((0.39, 0.45), [9, 10, 11]), ((99.0, 100.0), [39]), ((1.5, 9.0), [37, 38, 39])],
)
def test_a_part_begins_with_the_frame_on_screen_and_ends_with_the_video(span, frames):
    from fastvid.video import probe

    draws = SpanEvaluation(ViewSpec(frames=8, size=32), spans={"v": span})
    (view,) = draws.views(Sample("v"), probe(encode(40)))
    assert sorted(set(view.frames)) == frames
    (whole,) = draws.views(Sample("another"), probe(encode(40)))
    assert len(set(whole.frames)) == 8


def test_video_mme_in_rows_and_by_video(tmp_path):
    shared = {name: VIDEO_MME[name] for name in ("video_id", "duration", "domain", "sub_category", "url")}
    question = {name: VIDEO_MME[name] for name in ("question_id", "task_type", "question", "options", "answer")}
    rows = write(tmp_path, "rows.jsonl", json.dumps(VIDEO_MME) + "\n")
    nested = write(tmp_path, "nested.json", [{**shared, "questions": [question, {**question, "answer": "(D)"}]}])
    (row,), (one, two) = read_choices(rows), read_choices(nested)
    assert (row.question, row.options, row.answer) == ("How many?", ("One.", "Two.", "Three.", "All."), 2)
    assert row.groups == one.groups == ("short", "Counting Problem")
    assert (one.options, one.answer, two.answer) == (row.options, 2, 3)
    write(tmp_path, "data/fFj-_3ACGo8.mp4", encode(3))
    for path in (rows, nested):
        assert lists_of_choices(path) == [path]
        assert [sample.key for sample in open_choices([path]).samples] == ["data/fFj-_3ACGo8.mp4"]


def test_a_letter_is_a_letter_where_letters_are_written_in_front(tmp_path):
    options = ["A. K", "B. C", "C. D", "D. E"]
    path = write(
        tmp_path,
        "rows.json",
        [
            {**VIDEO_MME, "options": options, "answer": "C"},
            {**VIDEO_MME, "options": options, "answer": "K"},
            {"video": "a", "question": "?", "candidates": ["K", "C", "D"], "answer": "C"},
        ],
    )
    assert [choice.options[choice.answer] for choice in read_choices(path)] == ["D", "K", "C"]


def test_a_part_is_its_own_video_in_every_respect(tmp_path):
    source = open_choices(lists_of_choices(mvbench(tmp_path)))
    assert [origin_of(source, index).name.rsplit("/")[-1] for index in range(3)] == ["video_1", "AB", "AB"]
    assert [fields_of(source, index) for index in range(3)] == [{}] * 3
    assert [source.size(index) for index in range(3)] == [len(source.read(index)) for index in range(3)]


def test_a_folder_may_hold_tables(tmp_path):
    write(tmp_path, "val.csv", NEXT_QA + "7,30,640,480,why,0,1,CW,a,b,c,d,e\n")
    write(tmp_path, "labels.csv", "path,label\n7.mp4,x\n")
    write(tmp_path, "7.mp4", encode(2))
    assert lists_of_choices(tmp_path) == [tmp_path / "val.csv"]


def test_next_qa_as_a_table_and_as_json(tmp_path):
    values = ["4010069381", 30, 640, 480, "how do the two man play", 3, 6, "CH", "tap", "pat", "3", "strum", "hit"]
    rows = {
        "val.csv": NEXT_QA + ",".join(map(str, values)) + "\n",
        "val.json": [dict(zip(NEXT_QA.strip().split(","), values, strict=True))],
    }
    write(tmp_path, "map_vid_vidorID.json", {"4010069381": "1164/4010069381"})
    write(tmp_path, "NExTVideo/1164/4010069381.mp4", encode(3))
    write(tmp_path, "NExTVideo/1165/4010069381.mp4", encode(3))
    for name, content in rows.items():
        path = write(tmp_path, name, content)
        source = open_choices(lists_of_choices(path))
        ((choice,),) = source.choices
        assert (choice.options[choice.answer], choice.groups) == ("strum", ("causal", "CH"))  # 3 is a number here
        assert source.samples[0].key == "NExTVideo/1164/4010069381.mp4"
    (tmp_path / "map_vid_vidorID.json").unlink()
    with pytest.raises(ValueError, match=r"val.json, entry 1: its video 4010069381 may be .* or .*--data.videos"):
        open_choices([tmp_path / "val.json"])
    assert len(open_choices([tmp_path / "val.json"], tmp_path / "NExTVideo" / "1165").samples) == 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"answer": "E"}, r"rows.json, entry 1: the answer 'E' is none of its 4 options"),
        ({"answer": 4}, "the answer 4 is none"),
        ({"options": ["A. One."]}, "no multiple-choice question, which has a video, a question, a list of options"),
        ({"question": None}, "no multiple-choice question"),
        ({"options": ["x"] * 27, "answer": 0}, "27 options; at most 26 have a letter"),
        ({"start": 3, "end": 1}, "the seconds from 3 to 1 are no part of a video"),
    ],
)
def test_what_is_no_question_is_named(tmp_path, entry, said):
    path = write(tmp_path, "rows.json", [{**VIDEO_MME, **entry}])
    with pytest.raises(ValueError, match=said):
        list(read_choices(path))


def test_other_lists_are_no_questions(tmp_path):
    write(tmp_path, "dataset.json", {"name": "x"})
    captions = write(tmp_path, "captions.json", [{"file": "a.mp4", "caption": "a cat"}])
    assert lists_of_choices(captions) == lists_of_choices(tmp_path) == lists_of_choices(tmp_path / "absent") == []
    path = write(tmp_path, "rows.json", [VIDEO_MME])
    write(tmp_path, "other.mp4", encode(2))
    with pytest.raises(ValueError, match=r"none of the 1 questions of .*rows.json has its video below .*--data.videos"):
        open_choices([path])
