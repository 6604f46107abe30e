"""Streaming from an S3-compatible server on loopback."""

import pytest

from fastvid.data.sources.open_stream import open_stream
from fastvid.data.storage.disk_cache import OVERHEAD
from fastvid.data.storage.remote import Remote, StreamError
from tests.data.shard_server import make_shards, padded_video

boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture
def bucket(monkeypatch):
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint, "FSSPEC_S3_ENDPOINT_URL": endpoint,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="videos")
    yield client
    server.stop()


def test_a_bucket(bucket, tmp_path):
    make_shards(tmp_path / "original", 10)
    for path in (tmp_path / "original").iterdir():
        bucket.upload_file(str(path), "videos", f"some/shards/{path.name}")
    remote = Remote("s3://videos/some/shards", attempts=2, wait=0.01)
    source = open_stream(remote, tmp_path / "cache", OVERHEAD + 4 * 98_304, 2)
    source.prefetch([0, 1], [2, 3])
    assert [source.read(i) for i in range(20)] == [padded_video(40_000, i) for i in range(20)]
    assert source._files._cache.used() <= OVERHEAD + 4 * 98_304
    bucket.delete_object(Bucket="videos", Key="some/shards/s00-000000.tar")
    source._files.close()
    for i in range(2, 20):
        source.read(i)
    with pytest.raises(StreamError, match=r"s3://videos/some/shards/s00-000000\.tar is not there, and dataset\.json"):
        source.read(0)
    with pytest.raises(FileNotFoundError, match=r"s3://videos/other/dataset\.json is not there"):
        open_stream(Remote("s3://videos/other"), tmp_path / "cache", 1 << 20, 2)
