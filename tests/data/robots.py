"""LeRobot data sets made by tests: every frame shows a number, which tells its episode."""

import io
import json
from pathlib import Path

import av

from tests.video.clips import encode

FPS = 25
CAMERAS = ("observation.images.top", "observation.images.wrist")
LENGTHS = (8, 12, 9, 10)
TASKS = (["fold the towel"], ["open the drawer"], ["fold the towel"], ["open the drawer", "close it"])


def first_number(episode: int, camera: int = 0) -> int:
    """The number that the first frame of an episode shows."""
    return sum(LENGTHS[:episode]) + 100 * camera


def episode_video(episode: int, camera: int = 0, **options) -> bytes:
    """A file of the frames of an episode."""
    return encode(LENGTHS[episode], shown=first_number(episode, camera), **options)


def joined(files: list[bytes]) -> bytes:
    """The packets of mp4s one after the other, as ffmpeg's concat joins them."""
    out, begin = io.BytesIO(), 0
    with av.open(out, "w", format="mp4") as whole:
        copy = None
        for data in files:
            with av.open(io.BytesIO(data)) as container:
                stream = container.streams.video[0]
                copy = copy or whole.add_stream_from_template(stream)
                packets = [packet for packet in container.demux(stream) if packet.dts is not None]
                first = min(packet.pts for packet in packets)
                tick = round(1 / (FPS * stream.time_base))
                for packet in packets:
                    packet.pts, packet.dts = packet.pts - first + begin, packet.dts - first + begin
                    packet.stream = copy
                    whole.mux(packet)
                begin += tick * len(packets)
    return out.getvalue()


def write_info(root: Path, version: str, video_path: str | None, **changes) -> None:
    features = {camera: {"dtype": "video", "shape": [64, 128, 3]} for camera in CAMERAS}
    features |= {"action": {"dtype": "float32", "shape": [7]}}
    info = {
        "codebase_version": version, "fps": FPS, "total_episodes": len(LENGTHS), "chunks_size": 2,
        "splits": {"train": f"0:{len(LENGTHS)}"}, "video_path": video_path, "features": features, **changes,
    }  # fmt: skip
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def make_2_1(root: Path, **changes) -> Path:
    """A data set of version 2.1: a file for each episode and camera."""
    path = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    write_info(root, "v2.1", path, **changes)
    lines = [
        json.dumps({"episode_index": number, "tasks": tasks, "length": length})
        for number, (tasks, length) in enumerate(zip(TASKS, LENGTHS, strict=True))
    ]
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    for camera, name in enumerate(CAMERAS):
        for episode in range(len(LENGTHS)):
            file = root / path.format(episode_chunk=episode // 2, video_key=name, episode_index=episode)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(episode_video(episode, camera))
    return root


def make_3_0(root: Path, options: dict[str, str] | None = None, **changes) -> Path:
    """A data set of version 3.0: three episodes in a camera's first file, and the last in another."""
    import pyarrow as pa
    from pyarrow import parquet

    path = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    write_info(root, "v3.0", path, **changes)
    files = ((0, 1, 2), (3,))
    rows = [
        {"episode_index": number, "tasks": tasks, "length": length, "stats/action/mean": [0.5] * 7}
        for number, (tasks, length) in enumerate(zip(TASKS, LENGTHS, strict=True))
    ]
    for camera, name in enumerate(CAMERAS):
        for number, episodes in enumerate(files):
            file = root / path.format(video_key=name, chunk_index=0, file_index=number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(joined([episode_video(episode, camera, options=options) for episode in episodes]))
            begin = 0
            for episode in episodes:
                end = begin + LENGTHS[episode]
                where = {"chunk_index": 0, "file_index": number}
                where |= {"from_timestamp": begin / FPS, "to_timestamp": end / FPS}
                rows[episode] |= {f"videos/{name}/{key}": value for key, value in where.items()}
                begin = end
    folder = root / "meta" / "episodes" / "chunk-000"
    folder.mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows[:3]), folder / "file-000.parquet")
    parquet.write_table(pa.Table.from_pylist(rows[3:]), folder / "file-001.parquet")
    return root
