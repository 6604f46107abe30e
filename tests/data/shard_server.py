"""Shards on an HTTP server on loopback that can be told to misbehave; and a process that reads them."""

import hashlib
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fastvid.data import ShardWriter
from fastvid.data.shards.dataset_json import Dataset, ShardInfo, save_dataset
from fastvid.data.shards.index import index_path
from tests.video.clips import encode

_VIDEO = encode(8)


def padded_video(size: int, seed: int) -> bytes:
    """A video of ``size`` bytes: its file has random bytes behind it, in a box that players skip."""
    padding = size - len(_VIDEO) - 8
    return _VIDEO + (padding + 8).to_bytes(4, "big") + b"free" + random.Random(seed).randbytes(padding)


def make_shards(folder: Path, shards: int, videos: int = 2, size: int = 40_000, seed: int = 0) -> Dataset:
    """Writes shards of ``videos`` videos of ``size`` bytes, with ``dataset.json``."""
    for shard in range(shards):
        with ShardWriter(folder, f"s{shard:02d}") as writer:
            for video in range(videos):
                data = padded_video(size, seed + shard * videos + video)
                writer.add(f"{video:03d}", ".mp4", data, label=str(video))
    return describe(folder)


def describe(folder: Path) -> Dataset:
    """Writes the ``dataset.json`` of a folder of indexed shards."""
    facts = []
    for tar in sorted(folder.glob("*.tar")):
        data, index = tar.read_bytes(), index_path(tar).read_bytes()
        digests = [hashlib.sha256(x).hexdigest() for x in (data, index)]
        facts.append(ShardInfo(tar.name, index.count(b"\n") - 1, len(data), digests[0], len(index), digests[1]))
    samples = sum(fact.samples for fact in facts)
    dataset = Dataset(tuple(facts), labels={str(k): len(facts) for k in range(samples // len(facts))})
    save_dataset(folder, dataset)
    return dataset


class ShardServer:
    """Serves a folder.

    Attributes:
        faults: for a file name, what happens at each of the next requests: a status such as ``500``, ``"silent"`` (no
            answer), ``"stall"`` (in the middle), ``"truncate"`` (the connection ends early), ``"short"`` (a whole
            answer of half the file), ``"flip"`` (one bit changed), ``"long"``, ``"slow"`` (a quarter now, the rest when
            ``go_on`` is set).
        requests: how often each file was asked for.
    """

    def __init__(self, folder: Path):
        self.folder, self.faults, self.requests = folder, {}, Counter()
        self.go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.lstrip("/")
                server.requests[name] += 1
                faults = server.faults.get(name)
                fault = faults.pop(0) if faults else None
                path = server.folder / name
                status = fault if isinstance(fault, int) else 200 if path.is_file() else 404
                data = bytearray(path.read_bytes() if status == 200 else b"no")
                if fault == "flip":
                    data[len(data) // 2] ^= 1
                if fault == "short":
                    data = data[: len(data) // 2]
                if fault == "long":
                    data += b"more"
                if fault == "silent":
                    server.go_on.wait()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                quarter = len(data) // 4
                self.wfile.write(data[:quarter])
                if fault == "stall":
                    server.go_on.wait()
                    return
                if fault == "truncate":
                    return
                if fault == "slow":
                    self.wfile.flush()
                    server.go_on.wait()
                self.wfile.write(data[quarter:])

            def log_message(self, *args):
                pass

        return Handler
