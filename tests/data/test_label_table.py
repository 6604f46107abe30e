"""Tables of labels: one reader, for training and for packing."""

import os

import pytest

from fastvid.data import open_described, open_source
from fastvid.data.labels.table import read_label_table
from fastvid.data.pack.tables import table as packed
from tests.data.test_sources import make_folder

VIDEOS = ["a b.mp4", "c/d.webm"]
LABELS = {"a b.mp4": "run", "c/d.webm": "sit down"}


def trained(folder, table):
    """Labels as training reads them."""
    return {sample.key: sample.label for sample in open_source(folder, table).samples}


@pytest.fixture
def videos(tmp_path):
    make_folder(tmp_path / "videos", VIDEOS)
    return tmp_path / "videos"


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na b.mp4,run\nc/d.webm,sit down\n",
        "path, label\na b.mp4, run \nc/d.webm,\tsit down\n",
        "Label;PATH\r\nrun;a b.mp4\r\nsit down;c/d.webm\r\n",
        '"Video"\t"Class"\n"a b.mp4"\t"run"\nc/d.webm\tsit down',
        "filename,category,fps\n./a b.mp4,run,25\nc/../c/d.webm,sit down,30\n",
        "a b.mp4,run\n\nc/d.webm,sit down\n",
        "a b.mp4\trun\nc/d.webm\tsit down\n",
        "a b.mp4 run\nc/d.webm sit down\n",
        '"a b.mp4" run\nc/d.webm "sit down"\n',
        "path label\na b.mp4 run\nc/d.webm sit down\n",
        "path,label,\na b.mp4,run,\nc/d.webm,sit down,,\n",
        "path,label\rc/d.webm,sit down\ra b.mp4,run\r",
        "path,label\na b.mp4,run\na b.mp4,run \nc/d.webm,sit down\n",
        "{root}/a b.mp4,run\n{root}/c/d.webm,sit down\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_training_and_packing_read_the_same(videos, text, encoding):
    table = videos / "table.txt"
    table.write_bytes(text.format(root=videos).encode(encoding))
    assert trained(videos, table) == LABELS
    (collection,) = packed(table).values()
    assert {item.path: item.label for item in collection.items} == LABELS
    assert all(item.size > 0 for item in collection.items)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"path,label\na b.mp4,run\nc/d.webm\n", r"line 3: 1 fields, where 2 are expected .*'c/d.webm'"),
        (
            b"path,label\na,b.mp4,run\n",
            r"line 2: 3 fields, where 2 .*quotes around a .*a,b.mp4,run",
        ),
        (b"path,label\na b.mp4,run\nc/d.webm, \n", r"line 3: a row without a label; it reads 'c/d.webm,'"),
        (b"path,label\n,run\n", r"line 2: a row without a path; it reads ',run'"),
        (b"a b.mp4 1\na b.mp4 2\n", r"lines 1 and 2: 'a b.mp4' has two labels, '1' and '2'"),
        (b"path,label\na b.mp4,1\n./a b.mp4,2\n", r"lines 2 and 3: './a b.mp4' has two labels"),
        (b"a b.mp4 120 3\n", r"line 1: .*it reads 'a b.mp4 120 3'"),
        (b"run,a b.mp4\n", r"line 1: it neither names the columns, .*it reads 'run,a b.mp4'"),
        (b"colour,label\nred,run\n", r"line 1: it neither names the columns"),
        (b'path,label\n"a b.mp4,run\n', r"line \d: .* quotation mark missing"),
        (b"path,label\n", "lists no videos"),
        (b"\n \n", "is empty"),
        (b"path,path\na b.mp4,x\n", "two columns 'path'"),
        (b"path,label\na b.mp4,caf\xe9\n", "line 2: not UTF-8 .*save the file as UTF-8"),
        (b"PK\3\4\0\0", "is not a text file"),
        (b"path,label,split\na b.mp4,run,7\n", r"line 2: the column 'split' must say train, val or test, not '7'"),
        (b"youtube_id,label,time_start,time_end\nx,run,one,two\n", "line 2: time_start and time_end are to be numbers"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_content(videos, text, words):
    table = videos / "table.csv"
    table.write_bytes(text)
    for read in (lambda: trained(videos, table), lambda: packed(table)):
        with pytest.raises(ValueError, match=rf"table\.csv.*{words}|table\.csv {words}") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_as_a_table(videos):
    for read in (lambda table: trained(videos, table), packed):
        with pytest.raises(ValueError, match=r"c is a folder"):
            read(videos / "c")
        with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.csv"):
            read(videos / "nothing.csv")


def test_paths_are_below_the_folder_or_refused(videos, tmp_path, caplog):
    table = tmp_path / "table.csv"
    make_folder(tmp_path, ["videos-old/x.mp4"])
    for path in (tmp_path / "videos-old/x.mp4", "../videos-old/x.mp4"):
        table.write_text(f"{path},run\n")
        with pytest.raises(ValueError, match=r"line 1: '.*x.mp4' .*videos"):
            trained(videos, table)
    (tmp_path / "link").symlink_to(videos)
    table.write_text(f"{videos}/a b.mp4,run\n{tmp_path}/link/c/d.webm,sit down\n")
    assert trained(tmp_path / "link", table) == LABELS
    assert trained(videos, table) == LABELS
    table.write_text("videos/a b.mp4,run\nvideos/c/d.webm,sit down\n")  # from the table's own folder
    assert trained(videos, table) == LABELS
    assert "its paths start from its own folder" in caplog.text


def test_a_relative_path_of_the_table_itself(videos, monkeypatch):
    (videos / "table.csv").write_text("a b.mp4,run\nc/d.webm,sit down\n")
    monkeypatch.chdir(videos.parent)
    assert trained("videos", "videos/table.csv") == LABELS
    monkeypatch.chdir(videos)
    assert trained(".", "table.csv") == trained(os.curdir, "./table.csv") == LABELS


def test_what_is_missing_and_repeated_is_counted_and_said(videos, caplog):
    (videos / "table.csv").write_text("path,label,note\na b.mp4,Run,1\ngone.mp4,run,2\na b.mp4,Run,3\n")
    assert trained(videos, videos / "table.csv") == {"a b.mp4": "Run", "c/d.webm": None}
    for words in (
        "1 of 3 rows name videos that are not in", "line 3, 'gone.mp4'", "1 of 2 videos have no row",
        "1 rows repeat others, the first is line 4", "'Run' and 'run' differ in upper and lower case only",
        "columns that are not read: 'note'",
    ):  # fmt: skip
        assert words in caplog.text


def test_names_without_folder_or_ending_are_found_where_they_are_unique(videos):
    table = videos / "table.csv"
    table.write_text("id,label\na b,run\nd,sit down\n")
    assert trained(videos, table) == LABELS
    make_folder(videos, ["e/d.webm"])
    with pytest.raises(ValueError, match=r"line 3: 'd' may be 'c/d.webm' or 'e/d.webm': write the path"):
        trained(videos, table)
    make_folder(videos, ["k/abc_000010_000020.mp4"])
    table.write_text("label,youtube_id,time_start,time_end,split\nrun,abc,10,20,validate\n")
    assert trained(videos, table)["k/abc_000010_000020.mp4"] == "run"


def test_a_column_split_makes_parts_when_packed(videos):
    (videos / "table.csv").write_text("path,label,split\na b.mp4,run,train\nc/d.webm,sit down,Validation\n")
    found = packed(videos / "table.csv")
    assert {part: [item.path for item in c.items] for part, c in found.items()} == {
        "train": ["a b.mp4"], "val": ["c/d.webm"],
    }  # fmt: skip
    assert [row.part for row in read_label_table(videos / "table.csv").rows] == [0, 1]


def test_tables_of_webvid_are_read_as_published(tmp_path):
    make_folder(tmp_path / "videos", ["000001_000050/1066674784.mp4", "21179416.mp4"])
    table = tmp_path / "results_2M_train.csv"
    table.write_text(
        "videoid,contentUrl,duration,page_dir,name\n"
        '1066674784,https://x/1066674784-preview.mp4,PT00H00M17S,000001_000050,"Horse, grazing - seperated on green"\n'
        "21179416,https://x/21179416-preview.mp4,PT00H00M29S,,Child writing\n"
    )
    rows = read_label_table(table).rows
    assert [(row.path, row.label) for row in rows] == [("000001_000050/1066674784.mp4", None), ("21179416.mp4", None)]
    assert [row.caption for row in rows] == ["Horse, grazing - seperated on green", "Child writing"]
    (collection,) = packed(table, tmp_path / "videos").values()
    assert [item.caption for item in collection.items] == [row.caption for row in rows]
    assert [sample.caption for sample in open_described(tmp_path / "videos", table).samples] == [
        "Horse, grazing - seperated on green", "Child writing",
    ]  # fmt: skip
    (note,) = collection.notes
    assert note.endswith("columns that are not read: 'contenturl', 'duration'")
