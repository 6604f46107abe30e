"""A page in the browser: upload a video, ask, read the answer as it is made, and watch where the model looked."""

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastvid.command import UserError
from fastvid.video import DecodeError, Limits, VideoMetadata, probe
from fastvid.video.decode import iter_frames

_AS_TRAINED = "as in training"
_SHOWN, _HEIGHT, _GAP = 6, 128, 4  # frames of an uploaded video that are shown; their height and distance in pixels
_COLUMNS = ("frame", "second", "row", "column", "attention")


def open_page(
    answer: Callable[..., Any], modes: Sequence[str], title: str, *, mode: str | None = None, tokens: int = 64
) -> Any:
    """Make the page, a ``gradio.Blocks``.

    Args:
        answer: a project's ``caption`` with its model: ``answer(data, info, question=, mode=, tokens=)``.
        modes: ways in which it reads a video; None of them, the first choice, is that of training.
        title: of the page.
        mode: the one that is chosen at first.
        tokens: most tokens of an answer at first.

    Raises:
        UserError: gradio is not installed, or there is no such mode.
    """
    if mode is not None and mode not in modes:
        raise UserError(f"no mode {mode!r}: choose {', '.join(modes)}")
    try:
        import gradio
    except ImportError as error:
        raise UserError("--serve needs gradio: pip install 'fastvid[page]'") from error

    def show(video: str | None) -> np.ndarray | None:
        """Show some frames of an uploaded video: browsers play fewer kinds of it than are read here."""
        if video is None:
            return None
        with _shown_on_the_page(gradio):
            return strip(*_read(video))

    def respond(video: str | None, question: str, mode: str, tokens: float) -> Iterator[tuple[Any, ...]]:
        """Yield what the page shows: the answer so far, notes, the gaze, and a table of looks."""
        with _shown_on_the_page(gradio):
            if video is None:
                raise UserError("Upload a video first.")
            chosen = None if mode == _AS_TRAINED else mode
            found = answer(*_read(video), question=question.strip() or None, mode=chosen, tokens=int(tokens))
            notes = "\n\n".join(found.notes)
            said = ""
            yield said, notes, None, None
            for piece in found:
                said += piece
                yield said, notes, None, None
        with tempfile.TemporaryDirectory(prefix="fastvid-") as folder:
            path = Path(folder, "gaze.mp4")
            found.write_gaze(path)
            table = [[look[name] for name in _COLUMNS] for look in found.as_dict()["looks"]]
            yield said.strip(), notes, str(path), table  # gradio keeps a copy of the file

    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.Markdown(f"## {title}")
        with gradio.Row():
            with gradio.Column():
                video = gradio.File(label="Video", elem_id="video", height=140)
                frames = gradio.Image(show_label=False, interactive=False, elem_id="frames", height=140, buttons=[])
                question = gradio.Textbox(
                    label="Question", placeholder="empty: what the model was trained to be asked", elem_id="question"
                )
                with gradio.Row():
                    how = gradio.Dropdown(
                        [_AS_TRAINED, *modes], value=mode or _AS_TRAINED, label="How frames are read", elem_id="mode"
                    )
                    most = gradio.Slider(
                        1, max(256, tokens), value=tokens, step=1, label="Most tokens of the answer", elem_id="tokens"
                    )
                ask = gradio.Button("Ask", variant="primary", elem_id="ask")
            with gradio.Column():
                said = gradio.Textbox(label="Answer", lines=2, interactive=False, elem_id="answer")
                notes = gradio.Markdown(elem_id="notes")
                gaze = gradio.Video(
                    label="Where it looked", interactive=False, autoplay=True, loop=True, elem_id="gaze", height=420
                )
                looks = gradio.Dataframe(
                    headers=list(_COLUMNS), interactive=False, elem_id="looks",
                    label="The patch that the first layer attended to most, averaged over heads",
                )  # fmt: skip
        video.change(show, video, frames, show_progress="hidden")
        # One at a time: the model is on one device.
        for begin in (ask.click, question.submit):
            begin(respond, [video, question, how, most], [said, notes, gaze, looks], concurrency_limit=1)
    return page


def strip(data: bytes, info: VideoMetadata) -> np.ndarray:
    """Return some frames of a video side by side, uint8 [H, W, 3]."""
    count = min(_SHOWN, info.frames)
    wanted = [int((place + 0.5) * info.frames / count) for place in range(count)]
    rows, columns = info.shown_size
    size = (max(1, round(_HEIGHT * columns / rows)), _HEIGHT)
    parts: list[np.ndarray] = []
    for _, frame in iter_frames(data, wanted, info=info):
        parts += [np.asarray(Image.fromarray(frame).resize(size)), np.full((_HEIGHT, _GAP, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], 1)


def serve(page: Any, port: int | None = None) -> str:
    """Serve a page to this machine alone, without waiting. Return its address; ``page.close()`` ends it.

    Args:
        page: of :func:`open_page`.
        port: None for the first free one from 7860 on.

    Raises:
        UserError: the port is in use.
    """
    import gradio

    font = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # none from elsewhere
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1", server_port=port, share=False, quiet=True, prevent_thread_lock=True,
            ssr_mode=False, max_file_size=Limits().bytes, theme=font, footer_links=[],
        )  # fmt: skip
    except OSError as error:
        which = "no port of those from 7860 on is free" if port is None else f"--port {port} is in use"
        raise UserError(f"{which}: give another one with --port") from error
    return str(address)


def serve_until_interrupted(page: Any, port: int | None = None) -> None:
    """Serve a page and print its address, until Ctrl-C."""
    print(f"open {serve(page, port)} in a browser; Ctrl-C ends it", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def _read(path: str) -> tuple[bytes, VideoMetadata]:
    Limits().check(size=Path(path).stat().st_size)
    data = Path(path).read_bytes()
    return data, probe(data)


@contextlib.contextmanager
def _shown_on_the_page(gradio: Any) -> Iterator[None]:
    """Show a mistake of the user's on the page, in its sentence."""
    try:
        yield
    except (UserError, ValueError, DecodeError) as error:
        raise gradio.Error(str(error), duration=None, print_exception=False) from error
