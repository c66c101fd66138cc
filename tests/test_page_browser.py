"""The page of ssd serve in real headless Chromium: samples, keyboard, camera, telephone, dark."""

import glob
import os
import re
import shutil
from pathlib import Path

import cv2
import pytest
from serving import serving

from ssd.media import read_video

pytest.importorskip("fastapi", reason="needs the extra serve")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

PATIENCE_MS = 120_000
FOUND = "#table tbody tr"  # waited for by locators: the page forbids eval, which wait_for_function needs


def find_chromium() -> str | None:
    """The system's own Chromium or Chrome, or one that playwright has installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    own = sorted(glob.glob(str(Path.home() / ".cache/ms-playwright/chromium-*/chrome-linux*/chrome")))
    return next((path for name in names if (path := shutil.which(name))), own[-1] if own else None)


@pytest.fixture(scope="module")
def camera(tmp_path_factory, samples_folder) -> Path:
    """The sample clip as the fake camera of Chromium takes it: YUV4MPEG."""
    path = tmp_path_factory.mktemp("camera") / "clip.y4m"
    with open(path, "wb") as file:
        file.write(b"YUV4MPEG2 W176 H144 F15:1 Ip A1:1 C420jpeg\n")
        for frame, _ in zip(read_video(samples_folder / "carphone.mp4"), range(15), strict=False):
            file.write(b"FRAME\n" + cv2.cvtColor(frame.image, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


@pytest.fixture(scope="module")
def samples_folder() -> Path:
    return Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("page")) as service:
        yield service


@pytest.fixture(scope="module")
def browser(camera):
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium, or playwright install chromium")
    arguments = [
        "--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]  # fmt: skip
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, service):
    """A page that has loaded; errors of its scripts and requests to elsewhere fail the test."""
    page, faults = browser.new_page(), []
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda r: None if r.url.startswith((service.url, "blob:", "data:")) else faults.append(r.url),
    )
    page.goto(service.url)
    page.wait_for_selector("#classes input")
    yield page
    page.close()
    assert faults == []


def test_an_upload_shows_boxes(page, samples, tmp_path):
    page.set_input_files("#file", samples / "chelsea.png")
    page.locator(FOUND).first.wait_for()
    assert page.inner_text("#status") == "Found cat."
    assert page.evaluate("canvas.toDataURL().length") > 10_000
    assert page.inner_text("#table tbody tr td") == "cat"
    for kind, start in (("json", b'{\n "source"'), ("csv", b"source,frame"), ("picture", b"\x89PNG")):
        with page.expect_download() as download:
            page.click(f"[data-save={kind}]")
        download.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(start)
    if folder := os.environ.get("SSD_SCREENSHOTS"):
        page.set_viewport_size({"width": 1100, "height": 720})
        page.screenshot(path=f"{folder}/page.png")


def test_sliders_and_classes_filter_at_once(page, samples):
    page.select_option("#sample", "astronaut.jpg")
    page.locator(FOUND).first.wait_for()
    assert page.inner_text("#score-text").endswith(", by class")  # until the slider is moved
    page.uncheck("#classes input[value=person]")
    assert page.inner_text("#status") == "Found nothing."
    page.check("#classes input[value=person]")
    page.fill("#score", "0.99")
    assert page.inner_text("#status") == "Found nothing."


def test_by_keyboard_alone(page):
    def press_until(where: str, key: str = "Tab") -> None:
        for _ in range(40):
            if page.evaluate(f"document.activeElement.matches('{where}')"):
                return
            page.keyboard.press(key)
        raise AssertionError(f"{where} is not reached")

    press_until("#sample")
    page.keyboard.type("chelsea")
    page.locator(FOUND).first.wait_for()
    press_until("#score")
    page.keyboard.press("End")
    assert page.inner_text("#score-text") == "0.99"
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#score-text") == "0.90"
    press_until("#classes input[value=cat]")
    page.keyboard.press("Space")
    assert page.inner_text("#status") == "Found nothing."
    page.keyboard.press("Space")
    press_until("[data-save=csv]")
    with page.expect_download():
        page.keyboard.press("Enter")


def test_the_camera_gives_live_boxes(page):
    page.click("#camera")
    page.locator(FOUND).first.wait_for()
    sync_api.expect(page.locator("#status")).to_contain_text("a second", timeout=PATIENCE_MS)
    assert page.inner_text("#table tbody tr td") == "person"
    assert page.get_attribute("#camera", "aria-pressed") == "true"
    page.click("#camera")
    assert page.get_attribute("#camera", "aria-pressed") == "false"


def test_a_video_comes_back(page, samples):
    page.set_input_files("#file", samples / "carphone.mp4")
    page.wait_for_selector("#progress:not([hidden])")
    status = page.locator("#status")
    sync_api.expect(status).to_contain_text(re.compile("running|Done"), timeout=PATIENCE_MS)
    page.wait_for_selector("#video-saves:not([hidden])")
    assert page.inner_text("#status") == "Done: 50 frames."
    assert page.get_attribute("#video", "src").startswith("blob:")


def test_what_is_no_picture_is_said(page, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "a.png")
    page.wait_for_selector("#status.error")
    assert "no picture" in page.inner_text("#status")


def test_on_a_telephone_and_in_the_dark(browser, service, samples):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    page = context.new_page()
    page.goto(service.url)
    page.wait_for_selector("#classes input")
    page.set_input_files("#file", samples / "chelsea.png")
    page.locator(FOUND).first.wait_for(timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 30)"
    sizes = page.evaluate("[...document.querySelectorAll('button:not([hidden])')].map(b => b.offsetHeight)")
    assert min(size for size in sizes if size) >= 40
    if folder := os.environ.get("SSD_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/telephone.png")
    context.close()


def test_the_page_for_programs(page, service):
    page.goto(f"{service.url}/docs")
    page.wait_for_selector("#routes h2")
    assert "POST /v1/detect" in page.inner_text("#routes")
