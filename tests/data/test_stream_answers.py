"""URLs with a token, and servers that answer with a web page."""

import logging
from urllib.parse import urlsplit

import pytest

from fastvid.data import open_source
from fastvid.data.storage.remote import Remote, StreamError, without_secrets
from fastvid.report.markup import pre
from tests.data.shard_server import ShardServer, make_shards

LOGIN = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    make_shards(folder, 2)
    return folder


class Guarded(ShardServer):
    """Serves only requests that carry the token."""

    def _handler(self):
        class Handler(super()._handler()):
            def do_GET(handler):
                split = urlsplit(handler.path)
                if split.query != "token=s3cret&v=1":
                    handler.send_error(403)
                    return
                handler.path = split.path
                super().do_GET()

        return Handler


def test_a_token_goes_with_every_file_and_into_no_message(shards, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger="fastvid")
    with Guarded(shards) as server:
        url = f"{server.url}/?token=s3cret&v=1"
        source = open_source(url, cache_dir=tmp_path / "cache")
        assert len(source.samples) == 4
        assert len(source.read(3)) == 40_000
        assert server.requests["dataset.json"] == 1
        messages = [source.description]
        with pytest.raises(ValueError, match=r"access to .* was refused") as refused:
            open_source(f"{server.url}/?token=wr0ng-s3cret", cache_dir=tmp_path / "cache")
        messages.append(str(refused.value))
        with pytest.raises(FileNotFoundError, match="is not there") as missing:
            open_source(f"{server.url}/none/?token=s3cret&v=1", cache_dir=tmp_path / "cache")
        messages.append(str(missing.value))
        server.faults["s00-000000.tar"] = [500]
        remote = Remote(url, attempts=1)
        with pytest.raises(StreamError) as failed:
            remote.read("s00-000000.tar", 10)
        messages.append(str(failed.value))
    assert not [message for message in (*messages, caplog.text) if "s3cret" in message]


def test_a_web_page_is_not_called_damaged(shards, tmp_path):
    (shards / "dataset.json").write_bytes(LOGIN)
    with ShardServer(shards) as server, pytest.raises(ValueError, match=r"web page.*login") as error:
        open_source(server.url, cache_dir=tmp_path / "cache")
    assert "damaged" not in str(error.value)
    assert server.requests["dataset.json"] == 1  # asking again would get the same page


def test_a_web_page_instead_of_a_shard(shards):
    page = LOGIN.ljust((shards / "s00-000000.tar").stat().st_size)
    (shards / "s00-000000.tar").write_bytes(page)
    with ShardServer(shards) as server, pytest.raises(StreamError, match="web page"):
        Remote(server.url, attempts=1).download("s00-000000.tar", len(page), "0" * 64, -1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://h/a?token=x, then", "see https://h/a?... then"),
        ("401, url='https://me:pw@h:8/a/b?sig=%2B&x=1')", "401, url='https://...@h:8/a/b?...')"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("a ? b, /local/a?b", "a ? b, /local/a?b"),
    ],
)
def test_secrets_are_taken_out_of_texts(text, shown):
    assert without_secrets(text) == shown


def test_a_report_shows_no_token():
    page = pre({"data": {"path": "https://h/a?token=x"}, "seed": 1})
    assert "token" not in page
    assert "seed" in page
