"""The page of ``python -m fastvid.caption RUN --serve``, in a real browser without a window."""

import os
import shutil
from functools import partial
from typing import get_args

import numpy as np
import pytest

from fastvid.caption import main
from fastvid.command import UserError
from fastvid.projects.caption_page import open_page, serve, strip
from fastvid.projects.fvlm import PROJECT
from fastvid.projects.fvlm.caption import caption
from fastvid.projects.fvlm.model_config import Mode
from fastvid.video import probe
from tests.projects.fvlm.trained import trained
from tests.video.clips import encode

QUESTION = "Which letter is teal?"


def test_the_page_offers_the_modes_that_the_model_has():
    assert PROJECT.modes == get_args(Mode)


def test_some_frames_of_a_video_stand_side_by_side():
    for count, shown in ((30, 6), (2, 2)):
        data = encode(count, coloured=True)
        info = probe(data)
        found = strip(data, info)
        rows, columns = info.shown_size
        assert found.shape == (128, shown * round(128 * columns / rows) + 4 * (shown - 1), 3)
        assert found.dtype == np.uint8


def test_what_does_not_go_with_a_page_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "clip.mp4", "--serve"]) == 2
    assert capsys.readouterr().err == "--serve asks on its page: give no video, --ask, --gaze or --json with it\n"
    for options in (["--serve", "--port", "70000"], ["clip.mp4", "--port", "7860"]):
        assert main([str(tmp_path), *options]) == 2
        assert "a port up to 65535 of the page that --serve opens" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "no video: give a video file, or --serve for a page in the browser\n"


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """A headless chromium of the system, with its driver."""
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'fastvid[page]'")
    pytest.importorskip("selenium", reason="the browser is driven by selenium: pip install selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("no browser here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    flags = ["--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1300,1200"]
    for flag in [*flags, f"--user-data-dir={tmp_path / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(flag)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


def test_a_video_is_uploaded_and_asked_about_and_the_gaze_is_watched(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def found(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(condition):
        return WebDriverWait(browser, 40).until(lambda _: condition())

    model = trained()
    (tmp_path / "clip.mp4").write_bytes(encode(12, coloured=True))
    (tmp_path / "notes.mp4").write_text("no video")
    data = (tmp_path / "clip.mp4").read_bytes()
    modes = ("coarse", "parallel", "stream")
    with pytest.raises(UserError, match="no mode 'slow': choose coarse, parallel, stream"):
        open_page(partial(caption, model), modes, "fvlm: run", mode="slow")
    page = open_page(partial(caption, model), modes, "fvlm: run", mode="coarse", tokens=7)
    try:
        address = serve(page)
        with pytest.raises(UserError, match="is in use"):
            serve(open_page(partial(caption, model), (), "another"), int(address.rstrip("/").rsplit(":", 1)[1]))
        browser.get(address)
        # What is no video is said to be none, in a sentence.
        wait(lambda: found("#video input[type=file]"))[0].send_keys(str(tmp_path / "notes.mp4"))
        wait(lambda: [toast for toast in found("[data-testid=toast-body]") if "not an mp4, mov, mkv" in toast.text])
        found("#video [aria-label=Clear]")[0].click()
        # A video is shown and asked about.
        wait(lambda: found("#video input[type=file]"))[0].send_keys(str(tmp_path / "clip.mp4"))
        wait(lambda: found("#frames img"))
        found("#question textarea, #question input")[0].send_keys(QUESTION)
        found("#ask")[0].click()
        wait(lambda: found("#gaze video"))
        playing = "const v = document.querySelector('#gaze video'); return v.readyState >= 2 && v.videoWidth > 0"
        wait(lambda: browser.execute_script(playing))
        answer = caption(model, data, probe(data), question=QUESTION, mode="coarse", tokens=7)
        said = "".join(answer).strip()
        assert said
        assert found("#answer textarea")[0].get_attribute("value") == said
        values = {f"{look['attention']:g}" for look in answer.as_dict()["looks"]}
        wait(lambda: values <= set(found("#looks")[0].text.split()))
        assert [row["message"] for row in browser.get_log("browser") if row["level"] == "SEVERE"] == []
        assert browser.get_screenshot_as_png()[:4] == b"\x89PNG"
    finally:
        page.close(verbose=False)
