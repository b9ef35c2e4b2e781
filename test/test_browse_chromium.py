"""The page in a real browser: headless Chromium, with real keys, wheel and mouse."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from headless_browser import NAMES, PROGRAM, Browser

from keypoint_detection.browse import write_page
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.doctor_findings import Finding

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(NAMES)} is on PATH")

HOSTILE = "<img src=x onerror=document.body.dataset.hacked=1>"
HOSTILE_FILE = "a\"'</script><b>&#1%20.png"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    running.resize(1000, 700)
    yield running
    running.close()


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the COCO file of 40 drawn images of 64 x 48 pixels; the page is page.html beside it."""
    path = make_dataset("boxes", tmp_path_factory.mktemp("boxes"), 40, (48, 64), seed=3)
    coco = json.loads(path.read_text(encoding="utf-8"))
    entries = []
    for annotation in coco["annotations"]:
        points = annotation["keypoints"]
        for place in range(0, len(points), 3):
            points[place] += annotation["image_id"]  # the error of an image is its id
            points[place + 2] = 0.5
        entries.append(
            {"image_id": annotation["image_id"], "category_id": 1, "keypoints": points, "score": 1}
        )
    (path.parent / "results.json").write_text(json.dumps(entries), encoding="utf-8")
    findings = [Finding("blurred", "warning", f"number {number}", image_id=number) for number in (3, 5, 5)]
    splits = {number: "train" if number <= 30 else "validation" for number in range(1, 41)}
    predictions = path.parent / "results.json"
    page = path.parent / "page.html"
    write_page(path, page, predictions=predictions, findings=findings, splits=splits, title="boxes")
    return path


def image_flags(path: Path, name: str) -> dict[int, set[int]]:
    """Return the visibilities of one keypoint by image id, counted apart from the page."""
    coco = json.loads(path.read_text(encoding="utf-8"))
    place = coco["categories"][0]["keypoints"].index(name)
    flags: dict[int, set[int]] = {image["id"]: set() for image in coco["images"]}
    for annotation in coco["annotations"]:
        flags[annotation["image_id"]].add(int(annotation["keypoints"][3 * place + 2]))
    return flags


def state(browser: Browser) -> tuple[int, int]:
    """Return how many images are shown, and how many errors the page had."""
    values = browser.run("[document.body.dataset.shown, document.body.dataset.errors]")
    return int(values[0]), int(values[1])


SHOWN_IDS = """[...document.querySelectorAll('.cell')]
    .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map((cell) => Number(cell.dataset.image))"""


def test_links_filter_the_images(browser: Browser, boxes: Path) -> None:
    flags = image_flags(boxes, "flap_left")
    expected = {
        "": 40,
        "#keypoint=flap_left&points=has": sum(bool(found & {1, 2}) for found in flags.values()),
        "#keypoint=flap_left": sum(bool(found & {1, 2}) for found in flags.values()),
        "#keypoint=flap_left&points=lacks": sum(not found & {1, 2} for found in flags.values()),
        "#keypoint=flap_left&points=occluded": sum(1 in found for found in flags.values()),
        "#keypoint=flap_left&points=absent": sum(0 in found for found in flags.values()),
        "#split=validation": 10,
        "#finding=blurred": 2,
        "#finding=*none*": 38,
        "#q=0001": 11,  # 00001 and 00010 to 00019
        "#q=0001&split=validation": 0,
        "#keypoint=unknown&points=nonsense&sort=constructor&open=99": 40,
    }
    assert len({*expected.values()} - {0, 40}) >= 3
    for fragment, count in expected.items():
        browser.open(boxes.parent / "page.html", fragment)
        assert (fragment, *state(browser)) == (fragment, count, 0)
    counter = browser.run("document.getElementById('counter').textContent")
    assert counter == "40 images"
    assert browser.run("document.getElementById('zoom').open") is False


def test_controls_filter_and_sort(browser: Browser, boxes: Path) -> None:
    browser.open(boxes.parent / "page.html")
    change = """(() => {{ const one = document.getElementById('{}'); one.value = '{}';
        one.dispatchEvent(new Event('input')); }})()"""
    browser.run(change.format("sort", "error"))
    browser.run(change.format("order", "down"))
    assert browser.run(SHOWN_IDS)[:3] == [40, 39, 38]
    browser.run(change.format("sort", "findings"))
    assert browser.run(SHOWN_IDS)[:3] == [5, 3, 1]
    browser.run(change.format("split", "validation"))
    assert browser.run("document.getElementById('counter').textContent") == "10 / 40 images"
    browser.wait("location.hash === '#split=validation&sort=findings&order=down'")
    browser.run("document.querySelector('#legend button').click()")
    assert browser.run("document.querySelector('#legend button').ariaPressed") == "true"
    browser.run("document.getElementById('clear').click()")
    assert state(browser) == (40, 0)
    browser.wait("location.hash === ''")


def test_score_slider_hides_crosses(browser: Browser, boxes: Path) -> None:
    count = "document.querySelectorAll('.cell .cross-halo').length"
    browser.open(boxes.parent / "page.html", "#score=0.5")
    assert browser.run(count) == browser.run("document.querySelectorAll('.cell').length")
    browser.open(boxes.parent / "page.html", "#score=0.51")
    assert browser.run(count) == 0


def test_keys_walk_open_and_close(browser: Browser, boxes: Path) -> None:
    browser.open(boxes.parent / "page.html")
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        browser.press(key)
    browser.wait("location.hash === '#open=2'")
    browser.wait("document.getElementById('zoom').dataset.picture === 'full'")
    browser.press("ArrowRight")
    assert browser.run("document.getElementById('zoom-title').textContent") == "00002.png"
    assert "number 3" in browser.run("document.getElementById('details').textContent")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")  # the first image stays
    assert browser.run("document.getElementById('zoom-title').textContent") == "00000.png"
    browser.press("?")
    assert browser.run("document.getElementById('help').open") is True
    browser.press("Escape")
    browser.wait("!document.getElementById('help').open")
    assert browser.run("document.getElementById('zoom').open") is True
    browser.press("Escape")
    browser.wait("!document.getElementById('zoom').open && location.hash === ''")
    assert browser.run("document.activeElement.parentElement.dataset.image") == "1"
    assert state(browser) == (40, 0)


def test_layers_switch_by_key(browser: Browser, boxes: Path) -> None:
    browser.open(boxes.parent / "page.html", "#open=1")
    kinds = """['bones', 'point', 'box', 'cross']
        .map((one) => document.querySelector('#overlay .' + one) !== null)"""
    assert browser.run(kinds) == [True, True, False, True]
    names = browser.run("[...document.querySelectorAll('#overlay text')].map((one) => one.textContent)")
    assert "flap_left" in names
    for key in "23456":
        browser.press(key)
    assert browser.run(kinds) == [False, False, True, False]
    assert browser.run("document.querySelectorAll('#overlay text').length") == 0
    browser.press("1")
    assert browser.run("document.getElementById('picture').style.visibility") == "hidden"


MATRIX = "new DOMMatrix(getComputedStyle(document.getElementById('picture')).transform)"


def scale_of(browser: Browser) -> tuple[float, float, float]:
    """Return the picture's x, y and scale on the stage."""
    script = f"[{MATRIX}.e, {MATRIX}.f, {MATRIX}.a]"
    x, y, scale = browser.run(script)
    return x, y, scale


def test_wheel_zooms_about_the_pointer_and_dragging_moves(browser: Browser, boxes: Path) -> None:
    browser.open(boxes.parent / "page.html", "#open=1")
    corner = frame_of(browser, "#stage")
    before = scale_of(browser)
    x, y = 200.0, 300.0
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    browser.wait(f"{MATRIX}.a > {before[2] * 1.1}")
    after = scale_of(browser)
    for axis, place in enumerate((x - corner[0], y - corner[1])):  # the same image point is under the pointer
        assert (place - after[axis]) / after[2] == pytest.approx((place - before[axis]) / before[2], abs=1e-3)
    browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    browser.mouse("mouseMoved", x + 30, y - 20, button="left", buttons=1)
    browser.mouse("mouseReleased", x + 30, y - 20, button="left", clickCount=1)
    moved = scale_of(browser)
    assert moved == pytest.approx((after[0] + 30, after[1] - 20, after[2]), abs=1e-3)
    browser.press("0")
    assert scale_of(browser) == pytest.approx(before)
    browser.press("+")
    assert scale_of(browser)[2] == pytest.approx(1.25 * before[2], rel=1e-4)  # styles have six digits


def frame_of(browser: Browser, selector: str) -> tuple[float, float, float]:
    """Return x, y and width of an element in pixels of the window."""
    x, y, width = browser.run(
        f"(({{x, y, width}}) => [x, y, width])(document.querySelector('{selector}').getBoundingClientRect())"
    )
    return x, y, width


def write_one(folder: Path, image: dict[str, Any], points: list[float], names: list[str]) -> Path:
    category = {"id": 1, "name": "thing", "keypoints": names}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points}
    coco = {"images": [{"id": 1, **image}], "categories": [category], "annotations": [annotation]}
    path = folder / "labels.json"
    path.write_text(json.dumps(coco), encoding="utf-8")
    return path


def centroid(picture: np.ndarray) -> tuple[float, float]:
    """Return the intensity-weighted mean of the pixel centres of a picture `[h, w]`, (x, y)."""
    rows, columns = np.indices(picture.shape)
    return float((columns * picture).sum() / picture.sum()), float((rows * picture).sum() / picture.sum())


@pytest.mark.parametrize("fragment", ["#open=1&", "#"])
def test_point_lies_on_the_dot(browser: Browser, tmp_path: Path, fragment: str) -> None:
    x, y = 41.3, 17.8
    rows, columns = np.indices((60, 80))
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    assert cv2.imwrite(str(tmp_path / "dot.png"), dot.round().astype(np.uint8))
    assert centroid(dot) == pytest.approx((x, y), abs=1e-3)
    image = {"file_name": "dot.png", "width": 80, "height": 60}
    page = write_page(write_one(tmp_path, image, [x, y, 2], ["dot"]), tmp_path / "page.html")
    part = "#picture" if "open" in fragment else ".cell img"
    overlay = "#overlay" if "open" in fragment else ".cell svg"
    browser.open(page, f"{fragment}layers=picture,points")
    if "open" in fragment:
        browser.wait("document.getElementById('zoom').dataset.picture === 'full'")
    browser.run(f"document.querySelector('{part}').decode()")
    browser.run(
        f"document.querySelector('{overlay}').style.visibility = 'hidden'; document.activeElement.blur()"
    )
    left, top, width = frame_of(browser, part)
    scale = width / 80
    shown = browser.screenshot()
    inside = (slice(int(top) + 4, int(top + 60 * scale) - 40), slice(int(left) + 4, int(left + width) - 4))
    offset = np.array([inside[1].start, inside[0].start])
    seen_dot = offset + centroid(shown[inside])
    # The marker alone: everything of the page but its white outline and fill is made black.
    browser.run(
        f"""(() => {{ const svg = document.querySelector('{overlay}'); svg.style.visibility = '';
        document.querySelector('{part}').style.filter = 'brightness(0)';
        for (const one of svg.querySelectorAll('.halo')) one.style.opacity = '0'; }})()"""
    )
    seen_point = offset + centroid(browser.screenshot()[inside])
    assert np.abs(seen_point - seen_dot).max() / scale <= 0.05
    expected = np.array([left, top]) + (np.array([x, y]) + 0.5) * scale - 0.5
    assert np.abs(seen_point - expected).max() / scale <= 0.05


def test_names_of_a_file_are_never_html(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / HOSTILE_FILE
    path.parent.mkdir(parents=True)
    done, png = cv2.imencode(".png", np.full((30, 40, 3), 90, np.uint8))
    assert done
    path.write_bytes(png.tobytes())
    image = {"file_name": HOSTILE_FILE, "width": 40, "height": 30, "split": HOSTILE}
    labels = write_one(tmp_path, image, [5, 5, 2, 9, 9, 1], [HOSTILE, "</script>"])
    findings = [Finding(HOSTILE, "error", HOSTILE, image_id=1), Finding(HOSTILE, "warning", HOSTILE)]
    page = write_page(labels, tmp_path / "page.html", findings=findings, title=HOSTILE)
    browser.open(page, "#open=1")
    browser.wait("document.getElementById('zoom').dataset.picture === 'full'")
    assert state(browser) == (1, 0)
    assert browser.run("document.body.dataset.hacked === undefined")
    assert browser.run("document.querySelectorAll('img, b').length") == 2  # a thumbnail and the large picture
    shown = browser.run("document.body.innerText + document.title")
    assert shown.count(HOSTILE) >= 5
    assert browser.run("document.querySelector('#details .path').textContent") == HOSTILE_FILE


def test_thumbnail_stands_in_for_an_image_that_has_gone(browser: Browser, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((30, 40, 3), 90, np.uint8))
    image = {"file_name": "a.png", "width": 40, "height": 30}
    page = write_page(write_one(tmp_path, image, [5, 5, 2], ["nose"]), tmp_path / "page.html")
    (tmp_path / "a.png").unlink()
    browser.open(page, "#open=1")
    browser.wait("document.getElementById('notes').children.length === 1")
    assert browser.run("document.getElementById('zoom').dataset.picture") == "thumbnail"
    assert browser.run("document.getElementById('picture').naturalWidth") == 40
    assert state(browser) == (1, 0)


def test_two_thousand_images_keep_few_elements(browser: Browser, boxes: Path, tmp_path: Path) -> None:
    coco = json.loads(boxes.read_text(encoding="utf-8"))
    folder = Path(os.path.relpath(boxes.parent, tmp_path))
    names = [image["file_name"] for image in coco["images"]]
    coco["images"] = [
        {"id": number, "file_name": str(folder / names[number % 40]), "width": 64, "height": 48}
        for number in range(2000)
    ]
    coco["annotations"] = [
        {**coco["annotations"][number % 40], "id": number, "image_id": number} for number in range(2000)
    ]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(coco), encoding="utf-8")
    page = write_page(path, tmp_path / "page.html")
    count = "[document.querySelectorAll('*').length, document.querySelectorAll('.cell').length]"
    browser.open(page)
    assert state(browser) == (2000, 0)
    elements, cells = browser.run(count)
    assert cells <= 40
    assert elements <= 1500
    browser.run("document.getElementById('grid').scrollTop = 1e9")
    browser.wait("document.querySelector('.cell[data-image=\"1999\"]') !== null")
    browser.wait("document.querySelector('.cell[data-image=\"1999\"] img').naturalWidth === 64")
    assert browser.run(count)[1] <= 41


def test_page_asks_for_nothing_but_files(browser: Browser, boxes: Path) -> None:
    browser.requests.clear()
    browser.open(boxes.parent / "page.html", "#open=1")
    browser.wait("document.getElementById('zoom').dataset.picture === 'full'")
    schemes = {url.split(":")[0] for url in browser.requests if url != "about:blank"}
    assert schemes == {"file", "data"}


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_sticks_out_sideways(browser: Browser, boxes: Path, width: int) -> None:
    browser.resize(width, 800)
    try:
        for fragment in ("", "#open=1"):
            browser.open(boxes.parent / "page.html", fragment)
            browser.run("for (const one of document.querySelectorAll('header details')) one.open = true")
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("document.getElementById('grid').scrollWidth") <= width
    finally:
        browser.resize(1000, 700)
