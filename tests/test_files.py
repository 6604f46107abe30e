import errno

import pytest

from fastvid.files import whole_folder, write_new


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder"
    with whole_folder(path) as partial:
        (partial / "file").write_text("content")
        assert not path.exists()
    assert (path / "file").read_text() == "content"
    assert [found.name for found in path.parent.iterdir()] == ["folder"]


def test_nothing_is_left_of_a_folder_that_fails_and_the_error_names_it(tmp_path):
    path = tmp_path / "folder"

    def fill_the_disk():
        with whole_folder(path) as partial:
            (partial / "file").write_text("content")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="folder") as error:
        fill_the_disk()
    assert error.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_not_replaced(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(OSError, match="folder"), whole_folder(path) as partial:
        (partial / "new").touch()
    assert [found.name for found in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_written_once(tmp_path):
    write_new(tmp_path / "file", b"first")
    write_new(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_new_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match=r"file"):
        write_new(tmp_path / "no folder" / "file", b"x")
