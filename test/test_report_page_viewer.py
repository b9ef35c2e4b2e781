"""The report in a real browser: the large image, with real keys, wheel and mouse."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from headless_browser import NAMES, PROGRAM, Browser
from reporting import Report, encode, make_report, set_control, shown

from keypoint_detection.report_page import write_page

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(NAMES)} is on PATH")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    running.resize(1200, 800)
    yield running
    running.close()


@pytest.fixture(scope="module")
def report() -> Report:
    return make_report(60)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(*report, path)
    return path


def test_layers_switch_by_key(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('.pick').focus()")
    browser.press("Enter")
    browser.wait("document.getElementById('zoom').open")
    kinds = """['label', 'cross', 'bones', 'errors', 'box']
        .map((one) => document.querySelector('#overlay .' + one) !== null)
        .concat([document.querySelectorAll('#overlay text').length > 0,
            getComputedStyle(document.getElementById('heatmap')).visibility === 'visible'])"""
    assert browser.run(kinds) == [True, True, True, True, False, True, False]
    for key in "1234567":
        browser.press(key)
    assert browser.run(kinds) == [False, False, False, False, True, False, True]
    assert browser.run("document.querySelectorAll('#grid .label, #grid .cross').length") == 0
    browser.wait("location.hash.includes('layers=boxes%2Cheatmap')")
    browser.run("document.getElementById('heatmap').decode()")
    assert browser.run("document.getElementById('heatmap').naturalWidth") == 120
    set_control(browser, "#opacity", "0.25")
    browser.wait("document.getElementById('heatmap').style.opacity === '0.25'")
    browser.press("Escape")
    browser.wait("!document.getElementById('zoom').open")
    assert browser.run("document.activeElement.className") == "tile pick"
    assert shown(browser) == (60, 0)


def test_keys_walk_through_the_images(browser: Browser, page: Path) -> None:
    browser.open(page, "#sort=file&order=up&open=0")
    title = "document.getElementById('zoom-title').textContent"
    browser.press("ArrowRight")
    assert browser.run(title) == "frame_0001.png"
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")  # the first image stays
    assert browser.run(title) == "frame_0000.png"
    browser.run("document.getElementById('close').click()")
    browser.wait("location.hash === '#sort=file&order=up'")


def test_score_slider_hides_predictions_and_their_lines(browser: Browser, report: Report, page: Path) -> None:
    image = report[0]["images"][3]
    browser.open(page, "#open=3&score=0.7")
    moves = """[...document.querySelectorAll('#overlay .{}')]
        .reduce((total, one) => total + one.getAttribute('d').match(/M/g).length, 0)"""
    left = [one for one in image["predictions"] if one[3] >= 0.7]
    assert 0 < len(left) < len(image["predictions"])
    assert browser.run(moves.format("cross")) == 2 * len(left)
    matched = sum(image["predictions"][place][3] >= 0.7 for _, place in image["lines"])
    assert browser.run(moves.format("errors")) == matched
    missed = len(image["labels"]) - len(image["lines"])
    assert browser.run("document.querySelectorAll('#details .is-missed').length") == missed


def test_wheel_zooms_about_the_pointer_and_dragging_moves(browser: Browser, page: Path) -> None:
    browser.open(page, "#open=3&layers=labels,heatmap")
    matrix = "new DOMMatrix(getComputedStyle(document.getElementById('picture')).transform)"
    where = f"[{matrix}.e, {matrix}.f, {matrix}.a]"
    left, top = browser.run("(({x, y}) => [x, y])(document.getElementById('stage').getBoundingClientRect())")
    before = browser.run(where)
    x, y = 300.0, 400.0
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    browser.wait(f"{matrix}.a > {before[2] * 1.1}")
    after = browser.run(where)
    for axis, place in enumerate((x - left, y - top)):  # the same image point is under the pointer
        assert (place - after[axis]) / after[2] == pytest.approx((place - before[axis]) / before[2], abs=1e-2)
    browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    browser.mouse("mouseMoved", x + 30, y - 20, button="left", buttons=1)
    browser.mouse("mouseReleased", x + 30, y - 20, button="left", clickCount=1)
    assert browser.run(where) == pytest.approx([after[0] + 30, after[1] - 20, after[2]], abs=1e-2)
    browser.mouse("mouseMoved", x, y)
    column, row = (x - left - after[0] - 30) / after[2] - 0.5, (y - top - after[1] + 20) / after[2] - 0.5
    readout = browser.run("document.getElementById('readout').textContent")
    assert readout.startswith(f"x {column:.1f}, y {row:.1f}")
    browser.press("0")
    assert browser.run(where) == pytest.approx(before)


def centroid(picture: np.ndarray) -> np.ndarray:
    """Return the intensity-weighted mean of the pixel centres of a picture `[h, w]`, (x, y)."""
    rows, columns = np.indices(picture.shape)
    return np.array([(columns * picture).sum(), (rows * picture).sum()]) / picture.sum()


@pytest.mark.parametrize("kind", ["label", "cross"])
@pytest.mark.parametrize("part", ["viewer", "card", "tile"])
def test_mark_lies_on_the_dot(browser: Browser, tmp_path: Path, part: str, kind: str) -> None:
    x, y = 20.3, 11.8
    rows, columns = np.indices((30, 40))
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    image = {"id": "1", "name": "dot.jpg", "w": 40, "h": 30, "pick": "worst", "picture": 0}
    points = {"labels": [[0, x, y, 2]], "predictions": [[0, x, y, 1.0]], "lines": [[0, 0]]}
    content = {"title": "dot", "channels": [{"name": "dot", "colour": "#ffffff"}], "images": [image | points]}
    page = tmp_path / "report.html"
    # Browsers go by what a picture holds, not by what it is called: a PNG keeps the dot as it is.
    write_page(content, [encode(".png", dot.round().astype(np.uint8))], [], page)
    layer = {"label": "labels", "cross": "predictions"}[kind]
    browser.open(page, f"#layers={layer}" + ("&open=1" if part == "viewer" else ""))
    picture = {"viewer": "#picture", "card": ".pick img", "tile": ".cell img"}[part]
    overlay = {"viewer": "#overlay", "card": ".pick svg", "tile": ".cell svg"}[part]
    browser.run(f"document.querySelector('{picture}').decode()")
    browser.run(f"document.querySelector('{picture}').scrollIntoView({{block: 'center'}})")
    browser.run(
        f"document.querySelector('{overlay}').style.visibility = 'hidden'; document.activeElement.blur()"
    )
    left, top, width, height = browser.run(
        f"""(({{x, y, width, height}}) => [x, y, width, height])(
        document.querySelector('{picture}').getBoundingClientRect())"""
    )
    scale = np.array([width / 40, height / 30])
    inside = (
        slice(int(top) + 4, int(top + height) - 40),
        slice(int(left) + 4, int(left + width) - 4),
    )
    offset = np.array([inside[1].start, inside[0].start])
    seen_dot = offset + centroid(browser.screenshot()[inside])
    # The mark alone: everything of the page but its coloured line is made black.
    browser.run(
        f"""(() => {{ const svg = document.querySelector('{overlay}'); svg.style.visibility = '';
        document.querySelector('{picture}').style.filter = 'brightness(0)';
        for (const one of svg.querySelectorAll('.halo, .cross-halo')) one.style.opacity = '0'; }})()"""
    )
    seen_mark = offset + centroid(browser.screenshot()[inside])
    assert (np.abs(seen_mark - seen_dot) / scale).max() <= 0.05
    corner = np.array([left, top])
    if part != "viewer":
        corner = np.floor(corner + 0.5)  # where they are not moved, pictures are drawn at whole pixels
    expected = corner + (np.array([x, y]) + 0.5) * scale - 0.5
    assert (np.abs(seen_mark - expected) / scale).max() <= 0.05


def test_labels_and_predictions_differ_in_shape(browser: Browser, page: Path) -> None:
    browser.open(page, "#open=3")
    shapes = browser.run("""['#overlay .label', '#overlay .cross'].map((kind) =>
        [...document.querySelectorAll(kind)].map((one) => one.getAttribute('d').includes('z')))""")
    assert shapes[0]
    assert all(shapes[0])  # closed outlines
    assert shapes[1]
    assert not any(shapes[1])  # crosses
    fills = browser.run(
        "[...document.querySelectorAll('#overlay .label')].map((one) => one.getAttribute('fill'))"
    )
    assert set(fills) == {"none"}


def test_what_is_told_of_occlusion_is_beside_the_score(browser: Browser, tmp_path: Path) -> None:
    image = {"id": "1", "name": "a.jpg", "w": 40, "h": 30, "error": 1.0, "picture": 0}
    found = [[0, 11, 10, 0.5, 1], [0, 30, 10, 0.25, 1], [0, 30, 20, 0.125]]
    points = {"labels": [[0, 10, 10, 2]], "predictions": found, "lines": [[0, 0]]}
    content = {"title": "a", "channels": [{"name": "nose", "colour": "#ffffff"}], "images": [image | points]}
    write_page(content, [encode(".png", np.zeros((30, 40), np.uint8))], [], tmp_path / "report.html")
    browser.open(tmp_path / "report.html", "#open=1&score=0&layers=predictions")
    cells = "[...document.querySelectorAll('#details tbody tr')].map((row) => row.cells[2].textContent)"
    assert browser.run(cells) == ["0.50, occluded", "0.25, occluded", "0.13"]
    box = "document.getElementById('picture').getBoundingClientRect()"
    left, top, width = (browser.run(f"{box}.{name}") for name in ("left", "top", "width"))
    scale = width / 40
    for x, y, text in (
        (30, 10, "nose, predicted as occluded, score 0.25"),
        (30, 20, "nose, predicted, score 0.13"),
    ):
        browser.mouse("mouseMoved", left + (x + 0.5) * scale, top + (y + 0.5) * scale)
        assert browser.run("document.getElementById('readout').textContent").endswith(text)
