import gzip
import json

import pytest

from fastvid.data import open_source, split_labelled
from fastvid.data.__main__ import main
from fastvid.data.pack.folder import folder
from fastvid.data.pack.item import MISSING
from fastvid.data.pack.llava import llava
from fastvid.data.pack.ntu import ntu
from fastvid.data.pack.ssv2 import ssv2
from fastvid.data.pack.tables import table
from fastvid.data.pack.ucf101 import ucf101
from fastvid.data.pack.webdataset import webdataset
from fastvid.data.shards.keys import key_of
from tests.data.packs import tar


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def labels(collection):
    return {item.key: item.label for item in collection.items}


def test_folder(tmp_path):
    touch(tmp_path, "run/b.mp4", "run/a.webm", "sit/x.AVI", "sit/y.ts", "top.mp4", "run/notes.txt", ".cache/z.mp4")
    found = folder(tmp_path)[""]
    assert labels(found) == {"run/a": "run", "run/b": "run", "sit/x": "sit", "sit/y": "sit", "top": None}
    assert [item.size for item in found.items] == [len(item.path) for item in found.items]
    assert found.notes == ["left out: 1 hidden, 1 other file"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "real/run/a.mp4")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/sit").symlink_to(tmp_path / "real/run")
    (tmp_path / "src/b.mp4").symlink_to(tmp_path / "real/run/a.mp4")
    (tmp_path / "src/nowhere.mp4").symlink_to(tmp_path / "gone")
    found = {item.key: (item.label, item.size) for item in folder(tmp_path / "src")[""].items}
    assert found == {"sit/a": ("sit", 14), "b": (None, 14), "nowhere": (None, MISSING)}
    (tmp_path / "real/run/up").symlink_to(tmp_path / "real")
    again = folder(tmp_path / "src")[""]
    assert {item.key: (item.label, item.size) for item in again.items} == found
    assert again.notes == ["left out: 1 link to a folder that holds it (sit/up/run), 1 folder without videos (sit/up)"]


def test_two_files_of_one_key(tmp_path):
    touch(tmp_path, "a/x.mp4", "a/x.webm")
    with pytest.raises(ValueError, match=r"a/x\.mp4 and a/x\.webm would both .*'a/x'"):
        folder(tmp_path)
    touch(tmp_path / "b", "v.1.mp4", "v_1.mp4")
    with pytest.raises(ValueError, match=r"v\.1\.mp4 and v_1\.mp4 would both"):
        folder(tmp_path / "b")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a/b.mp4", "a/b"), ("a.b/c.d.mp4", "a.b/c_d"), ("./a.mp4", "a"), ("a/.x.mp4", "a/_x"), ("é/ü.mp4", "é/ü"),
        ("bad\udcff.mp4", "bad\\xff"), ("a\nb.mp4", "a_b"),
    ],
)  # fmt: skip
def test_keys(path, key):
    assert key_of(path) == key


def test_long_keys_fit_a_tar_and_stay_apart():
    keys = {key_of(f"{'folder/' * 60}{'name' * 30}{i}.mp4") for i in range(20)}
    assert len(keys) == 20
    assert all(len(key) < 100 for key in keys)


@pytest.mark.parametrize("path", ["../a.mp4", "/a.mp4", "a/../../b.mp4"])
def test_keys_do_not_leave_the_folder(path):
    with pytest.raises(ValueError, match="not below"):
        key_of(path)


@pytest.mark.parametrize(
    "text",
    [
        "a b.mp4 run\nc/d.mp4 sit\nnone.mp4 run\n",
        "path,label\na b.mp4,run\nc/d.mp4,sit\nnone.mp4,run\n",
        "a b.mp4,run\nc/d.mp4,sit\nnone.mp4,run",
    ],
)
def test_tables(tmp_path, text):
    touch(tmp_path, "a b.mp4", "c/d.mp4")
    (tmp_path / "list.csv").write_text(text)
    found = table(tmp_path / "list.csv")[""]
    assert labels(found) == {"a b": "run", "c/d": "sit", "none": "run"}
    assert [item.size == MISSING for item in found.items] == [False, False, True]


def test_a_table_of_absolute_paths_with_captions(tmp_path):
    touch(tmp_path, "v/x/a.mp4", "v/y/b.mp4", "w/list.csv")
    rows = f'caption,path,label\n"one, two",{tmp_path}/v/x/a.mp4,\n,../v/y/b.mp4,3\n'
    (tmp_path / "w/list.csv").write_text(rows)
    found = table(tmp_path / "w/list.csv")[""]
    facts = [(i.key, i.label, i.caption, i.size) for i in found.items]
    assert facts == [("x/a", None, "one, two", 9), ("y/b", "3", None, 9)]
    relative = tmp_path / "w/other.csv"
    relative.write_text("x/a.mp4 1\n")
    assert table(relative, tmp_path / "v")[""].items[0].size == 9


@pytest.mark.parametrize(
    "text",
    ["path,label\na.mp4,1,2\n", "a.mp4 1\nb.mp4\n", "", "a.mp4 1\na.mp4 2\n"],
)
def test_broken_tables_are_refused_with_their_name(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=r"list\.csv"):
        table(tmp_path / "list.csv")


def test_ssv2(tmp_path):
    touch(tmp_path, "20bn/1.webm", "20bn/2.webm", "20bn/9.webm")
    train = [
        {"id": "1", "label": "putting a cup on a table", "template": "Putting [something] on [something]"},
        {"id": "3", "label": "x", "template": "Holding [something]"},
    ]
    (tmp_path / "something-something-v2-train.json").write_text(json.dumps(train))
    (tmp_path / "test.json").write_text('[{"id": "2"}]')
    (tmp_path / "labels.json").write_text('{"Holding something": "0", "Putting something on something": "1"}')
    found = ssv2(tmp_path)
    assert sorted(found) == ["test", "train"]
    first, missing = found["train"].items
    assert (first.key, first.label, first.caption) == (
        "20bn/1",
        "Putting something on something",
        "putting a cup on a table",
    )
    assert first.extra == {"label_id": 1}
    assert missing.size == MISSING
    assert labels(found["test"]) == {"20bn/2": None}
    assert found["test"].notes == ["left out: 3 other files", "1 videos that no list names were passed over"]
    (tmp_path / "labels.json").write_text('{"Holding something": "0"}')
    with pytest.raises(ValueError, match=r"of video 1 is not in labels\.json"):
        ssv2(tmp_path)


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        ([("1", "A"), ("1", "B")], [("2", "A")], r"train\.json: video 1 has two labels, 'A' and 'B'"),
        ([("1", "A"), ("1", "A")], [("1", "A")], r"video 1 is in .*train\.json and in .*validation\.json"),
        ([("1", None)], [("2", "A")], r"train\.json: video 1 has no template"),
        ([("1", 7)], [("2", "A")], r"train\.json: template and label of video 1 are to be texts"),
        ([(None, "A")], [("2", "A")], r"train\.json: an entry without an id"),
        ([("5", "A")], [("2", "A")], r"a/5\.webm and b/5\.webm may both be video 5"),
    ],
)
def test_ssv2_lists_that_contradict_themselves(tmp_path, train, validation, words):
    touch(tmp_path, "a/1.webm", "a/2.webm", "a/5.webm", "b/5.webm")
    for part, entries in (("train", train), ("validation", validation)):
        found = [{"id": name, "label": "x", "template": template} for name, template in entries]
        (tmp_path / f"{part}.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=words) as caught:
        ssv2(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_id_twice_with_one_label_is_one_video(tmp_path):
    touch(tmp_path, "1.webm")
    (tmp_path / "train.json").write_text(json.dumps([{"id": 1, "template": "A"}, {"id": "1", "template": "A"}]))
    assert labels(ssv2(tmp_path)["train"]) == {"1": "A"}


def test_ucf101(tmp_path):
    touch(tmp_path, "UCF-101/Run/v_Run_g01_c01.avi", "UCF-101/Sit/v_Sit_g01_c01.avi", "UCF-101/Sit/v_Sit_g02_c01.avi")
    with pytest.raises(FileNotFoundError, match=r"no trainlist01\.txt .* --split 0"):
        ucf101(tmp_path)
    assert len(ucf101(tmp_path, 0)[""].items) == 3
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/trainlist01.txt").write_text("Run/v_Run_g01_c01.avi 1\nSit/v_Sit_g02_c01.avi 2\n")
    (tmp_path / "lists/testlist01.txt").write_text("Sit/v_Sit_g01_c01.avi\nSit/v_Sit_g09_c01.avi\n")
    found = ucf101(tmp_path)
    assert labels(found["train"]) == {"UCF-101/Run/v_Run_g01_c01": "Run", "UCF-101/Sit/v_Sit_g02_c01": "Sit"}
    assert sorted(item.size == MISSING for item in found["test"].items) == [False, True]


@pytest.mark.parametrize("place", ["", "lists/"])
def test_lists_beside_the_videos_are_found_for_packing_as_for_training(tmp_path, place):
    src = tmp_path / "videos"
    names = [f"{label}/v_{label}_g{group:02d}_c01.avi" for label in ("Run", "Sit") for group in range(1, 20)]
    touch(src, *names)
    touch(tmp_path, f"{place}trainlist01.txt")
    for part, groups in (("train", range(8, 20)), ("test", range(1, 8))):
        lines = [name for name in names if int(name[name.index("_g") + 2 :][:2]) in groups]
        (tmp_path / f"{place}{part}list01.txt").write_text("\n".join(lines))
    packed = {part: sorted(labels(found)) for part, found in ucf101(src).items()}
    splits = split_labelled(open_source(src), protocol="ucf101-1")
    trained = {
        part: sorted(s.key.removesuffix(".avi") for source in sources for s in source.samples)
        for part, sources in (("train", (splits.train, splits.val)), ("test", (splits.test,)))
    }
    assert packed == trained


def test_ssv2_lists_beside_the_videos_are_found(tmp_path):
    touch(tmp_path / "20bn", "1.webm", "2.webm")
    for part, name in (("train", "1"), ("validation", "2")):
        (tmp_path / f"{part}.json").write_text(json.dumps([{"id": name, "template": f"Holding [{part}]"}]))
    found = ssv2(tmp_path / "20bn")
    assert {part: labels(c) for part, c in found.items()} == {
        "train": {"1": "Holding train"},
        "validation": {"2": "Holding validation"},
    }
    trained_on = open_source(tmp_path / "20bn").samples
    assert [sample.label for sample in trained_on] == ["Holding train", "Holding validation"]


def test_a_table_whose_paths_are_all_wrong_says_where_it_looked(tmp_path, capsys):
    touch(tmp_path, "v/a.mp4")
    (tmp_path / "list.csv").write_text("path,label\na.mp4,run\nb.mp4,sit\n")
    out = tmp_path / "out"
    assert main(["pack", str(tmp_path / "list.csv"), "--format", "csv", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path}/list.csv names no video that is there: the first, 'a.mp4' in line 2")
    assert f"was looked for at {tmp_path}/a.mp4. Relative paths start from the table's folder, or from --root" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_where_no_video_can_be_used_the_first_reason_is_said(tmp_path, capsys):
    touch(tmp_path / "src", "a.mp4", "b.mp4")
    arguments = ["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "0", "--order", "sorted"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "none of the videos can be used, such as a.mp4 (container: not an mp4, mov, mkv, webm or avi file" in said
    assert f"): see {tmp_path}/out/rejects.jsonl" in said


def test_ntu(tmp_path):
    touch(tmp_path, "S001C002P003R002A013_rgb.avi", "d/S032C001P106R001A120.avi", "other.avi")
    found = ntu(tmp_path)[""]
    assert [item.label for item in found.items] == ["A013", "A120"]
    assert found.items[0].extra == {"setup": 1, "camera": 2, "performer": 3, "replication": 2}
    assert found.notes
    named = [item.label for item in ntu(tmp_path, names=True)[""].items]
    assert named == ["tear up paper", "finger-guessing game (playing rock-paper-scissors)"]


def test_webdataset(tmp_path):
    members = {"0.mp4": b"video", "0.json": b'{"label": 3, "caption": "c", "fps": 9}', "1.jpg": b"", "2.webm": b"w"}
    (tmp_path / "sub").mkdir()
    (tmp_path / "a-000.tar").write_bytes(tar(members))
    (tmp_path / "sub/b.tar").write_bytes(tar(members))
    found = webdataset(tmp_path)[""]
    assert [item.key for item in found.items] == ["a-000/0", "a-000/2", "sub/b/0", "sub/b/2"]
    first = found.items[0]
    assert (first.label, first.caption, first.extra, first.where) == ("3", "c", {"fps": 9}, "a-000.tar!0.mp4")
    assert (tmp_path / first.path).read_bytes()[first.offset : first.offset + first.size] == b"video"


def test_llava(tmp_path):
    def talk(video, answer):
        return {
            "id": 1,
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": answer}],
            "video": video,
        }

    part = tmp_path / "0_30_s"
    part.mkdir()
    (part / "a_qa.json").write_text(json.dumps([talk("src/a.mp4", "B."), talk("src/b.mp4", "C.")]))
    (part / "z_cap.json").write_text(json.dumps([talk("src/a.mp4", " A long caption. ")]))
    (part / "v.tar.gz").write_bytes(gzip.compress(tar({"./x/src/b.mp4": b"bb", "src/c.mp4": b"c", "src/a.mp4": b"a"})))
    found = llava(tmp_path)[""]
    assert {item.key: item.caption for item in found.items} == {"src/a": "A long caption.", "src/b": "C."}
    assert found.notes == []
    talks = [[turns[1]["value"] for turns in item.extra["conversations"]] for item in found.items]
    assert talks == [["A long caption.", "B."], ["C."]]  # of captions first, and all are kept
    wanted = {item.path: i for i, item in enumerate(found.items)}
    assert list(found.archives[0].read(wanted, 0)) == [(1, 1, 2, b"bb"), (2, 0, 1, b"a")]
    assert list(found.archives[0].read(wanted, 1)) == [(2, 0, 1, b"a")]


@pytest.mark.parametrize(
    "content", ["{", "{}", "[1]", '[{"video": "a.mp4"}]', '[{"video": "a.mp4", "conversations": [1]}]']
)
def test_broken_llava_lists_are_refused_with_their_name(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "v.tar").write_bytes(tar({}))
    with pytest.raises(ValueError, match=r"a\.json"):
        llava(tmp_path)
