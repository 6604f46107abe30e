import io
import tarfile
import tracemalloc

import pytest

from fastvid.data.shards.index import build_index
from fastvid.data.shards.tar_reader import tar_members
from tests.video.clips import encode

VIDEO = encode(4)


def tar_bytes(*members, format=tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info, data in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
            info.size = len(data) if info.isreg() else info.size
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def read(data):
    refused = []
    found = list(tar_members(io.BytesIO(data), "x.tar", len(data), refused.append))
    return found, refused


def resum(data, at=0):
    """Sets the checksum of the header at ``at``."""
    header = bytearray(data[at : at + 512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_same_members_as_tarfile(format):
    names = ["a.mp4", "./b/c.mp4", "d/" * 40 + "e.mp4", "é.mp4"]
    if format != tarfile.USTAR_FORMAT:
        names += ["long" * 60 + ".mp4", "f/" * 200 + "g.mp4"]
    dated = tarfile.TarInfo("dated.mp4")
    dated.mtime = 1.5  # which takes an extended header
    data = tar_bytes(
        *((name, name.encode() * n) for n, name in enumerate(names)),
        special("folder", tarfile.DIRTYPE),
        *([(dated, b"x")] if format == tarfile.PAX_FORMAT else []),
        format=format,
    )
    found, refused = read(data)
    assert not refused
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(m.name.removeprefix("./"), m.offset_data, m.size) for m in tar if m.isreg()]
    assert [(m.name, m.offset, m.size) for m in found] == expected


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (("/etc/a.mp4", b"x"), "is not a plain relative name"),
        (("../a.mp4", b"x"), "is not a plain relative name"),
        (("b/../../a.mp4", b"x"), "is not a plain relative name"),
        (("a\nb.mp4", b"x"), "is not a plain relative name"),
        (special("a.mp4", tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
        (special("a.mp4", tarfile.LNKTYPE, "b.mp4"), "is a hard link"),
        (special("a.mp4", tarfile.CHRTYPE), "is a device"),
        (special("a.mp4", tarfile.FIFOTYPE), "is a pipe"),
    ],
)
def test_what_is_not_a_plain_file_is_refused_with_a_sentence(member, sentence, tmp_path):
    data = tar_bytes(member, ("good.mp4", VIDEO))
    found, refused = read(data)
    assert [m.name for m in found] == ["good.mp4"]
    assert len(refused) == 1
    assert sentence in refused[0]
    assert "x.tar" in refused[0]
    (tmp_path / "s.tar").write_bytes(data)
    assert [entry.key for entry in build_index(tmp_path / "s.tar")] == ["good"]


def test_sparse_files_are_refused():
    pax = tarfile.TarInfo("a.mp4")
    pax.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999999", "GNU.sparse.name": "a.mp4"}
    data = tar_bytes((pax, b"x" * 600), ("good.mp4", b"y"))
    assert [m.name for m in read(data)[0]] == ["good.mp4"]
    assert "is a sparse file" in read(data)[1][0]
    old = bytearray(tar_bytes(("a.mp4", b"x" * 600), ("good.mp4", b"y"), format=tarfile.GNU_FORMAT))
    old[156:157] = b"S"
    old[482] = 1  # its table goes on in a further block
    table = bytes(512)
    data = resum(bytes(old[:512])) + table + bytes(old[512:])
    assert [m.name for m in read(data)[0]] == ["good.mp4"]
    assert "is a sparse file" in read(data)[1][0]


@pytest.mark.parametrize("size", ["99999999999999", "1000000", "-1", "1e3", "9" * 5000, "٣"])
def test_sizes_in_extended_headers_are_not_believed(size):
    info = tarfile.TarInfo("a.mp4")
    info.pax_headers = {"size": size}
    with pytest.raises(ValueError, match=r"x\.tar.*(cut short|damaged)"):
        read(tar_bytes((info, b"x")))


def test_a_global_name_is_refused():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "../x"}) as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(ValueError, match="a global name or size"):
        read(file.getvalue())


@pytest.mark.parametrize("kind", [b"L", b"x", b"g"])
def test_a_name_of_gigabytes_takes_no_memory(kind, tmp_path):
    header = bytearray(tarfile.TarInfo("a").tobuf())
    header[124:136] = b"%011o\0" % (6 << 30)
    header[156:157] = kind
    path = tmp_path / "x.tar"
    with path.open("wb") as file:  # the file really is that long, but empty
        file.write(resum(bytes(header)))
        file.truncate(7 << 30)
    tracemalloc.start()
    with pytest.raises(ValueError, match="no such name is accepted"):
        build_index(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_every_flipped_bit_of_a_header_is_noticed_or_harmless():
    data = tar_bytes(("a.mp4", VIDEO), ("b.mp4", VIDEO), format=tarfile.USTAR_FORMAT)
    good, sentences = read(data)[0], set()
    second = good[1].offset - 512
    for at in (*range(0, 512, 5), *range(second, second + 512, 5)):
        changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        try:
            found, _ = read(changed)
        except ValueError as error:
            sentences.add(str(error))
        else:
            assert found == good  # Python's tarfile would have stopped without a word
    assert len(sentences) > 1
    assert all("x.tar" in sentence for sentence in sentences)


def test_cut_short():
    data = tar_bytes(("a.mp4", VIDEO), ("b.mp4", VIDEO))
    with pytest.raises(ValueError, match="cut short"):
        read(data[: len(VIDEO) + 1500])
    found, refused = read(data[: 512 + -(-len(VIDEO) // 512) * 512])
    assert [m.name for m in found] == ["a.mp4"]
    assert "ends without the mark of an end" in refused[0]
    with pytest.raises(ValueError, match="tar file"):
        read(b"")


def test_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(("a.mp4", VIDEO), ("a.mp4", VIDEO)))
    with pytest.raises(ValueError, match=r"x\.tar holds a\.mp4 twice"):
        build_index(path)
