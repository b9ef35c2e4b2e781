"""The report in a real browser: the page as a whole, its table and its gallery."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import NAMES, PROGRAM, Browser
from reporting import Report, encode, make_report, set_control, shown

from keypoint_detection.report_page import write_page

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(NAMES)} is on PATH")

HOSTILE = "<img src=x onerror=document.body.dataset.hacked=1></script>"


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


SHOWN_IDS = """[...document.querySelectorAll('#grid .cell')]
    .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map((cell) => cell.dataset.image)"""


def test_loads_without_errors_or_requests(browser: Browser, report: Report, page: Path) -> None:
    browser.requests.clear()
    browser.open(page)
    assert shown(browser) == (60, 0)
    assert {url for url in browser.requests if not url.startswith(("data:", "about:"))} == {page.as_uri()}
    assert browser.run("document.getElementById('title').textContent") == report[0]["title"]
    values = browser.run("[...document.querySelectorAll('.number .value')].map((one) => one.textContent)")
    assert values == ["0.873", "0.701", "2.43", "3.91", "0.943", "\u2013"]
    meanings = browser.run("[...document.querySelectorAll('.meaning')].map((one) => one.innerText)")
    assert meanings == [one["meaning"] for one in report[0]["headline"]]
    assert browser.run("document.getElementById('hash').innerText") == report[0]["hash"]
    assert browser.run("document.querySelectorAll('.pick').length") == 8
    browser.run("Promise.all([...document.querySelectorAll('.pick img')].map((one) => one.decode()))")
    visible = browser.run("""[...document.querySelectorAll('.pick img')]
        .filter((one) => one.naturalWidth === 480 && getComputedStyle(one).visibility === 'visible')
        .length""")
    assert visible == 8


def test_interval_bars_lie_where_their_numbers_say(browser: Browser, page: Path) -> None:
    browser.open(page)
    bars = browser.run("""[...document.querySelectorAll('.number')].map((card) =>
        [...card.querySelectorAll('rect.range')]
            .map(({x, width}) => [x.baseVal.value, width.baseVal.value]))""")
    assert bars[0][0] == pytest.approx([85.1, 4.3])  # of 0 to 1
    assert bars[1][0] == pytest.approx([66, 8])
    assert bars[2][0] == pytest.approx([44, 10.2])  # 2.2 to 2.71 of 0 to 5 px
    assert bars[5] == []


def test_numbers_beyond_twelve_are_folded(browser: Browser, tmp_path: Path) -> None:
    numbers = [
        {
            "name": "missed" if place else "missed_px",
            "label": f"Missed {place}",
            "value": place,
            "interval": [0, place + 1],
            "meaning": "",
        }
        for place in range(15)
    ]
    write_page({"title": "many", "headline": numbers}, [], [], tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    values = """[...document.querySelectorAll('.value')]
        .filter((one) => one.checkVisibility()).map((one) => one.innerText)"""
    assert browser.run(values) == [str(place) for place in range(12)]
    labels = browser.run("[...document.querySelectorAll('.number h3')].map((one) => one.textContent)")
    assert labels[:2] == ["Missed 0 (px)", "Missed 1"]
    browser.run("document.getElementById('more-box').open = true")
    assert browser.run(values) == [str(place) for place in range(15)]


def test_table_sorts_by_every_column(browser: Browser, report: Report, page: Path) -> None:
    rows = report[0]["perKeypoint"]["rows"]
    browser.open(page)
    click = "document.querySelector('#table [data-column={}]').click()"
    names = "[...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[0].textContent)"
    for place, (column, first) in enumerate({"ap": 1, "pck": 1, "error": -1, "missed": -1}.items()):
        values = {row["channel"]: row["cells"][place]["value"] for row in rows}
        for sign in (first, -first):
            browser.run(click.format(column))
            found = [values[name] for name in browser.run(names)]
            numbers = [value for value in found if value is not None]
            assert numbers == sorted(numbers, reverse=sign < 0)
            assert found[: len(numbers)] == numbers  # undefined ones are last
            sort = browser.run(f"document.querySelector('#table th:has([data-column={column}])').ariaSort")
            assert sort == ("ascending" if sign > 0 else "descending")
    assert browser.run("document.querySelectorAll('#table [aria-sort]:not([aria-sort=none])').length") == 1
    browser.run(click.format("channel"))
    assert browser.run(names) == sorted(row["channel"] for row in rows)
    browser.wait("location.hash === '#column=channel&direction=up'")
    browser.run(click.format("labels"))
    browser.open(page, "#column=labels&direction=down")
    assert browser.run(names)[0] == "nose"


def test_gallery_sorts_and_filters(browser: Browser, report: Report, page: Path) -> None:
    images = report[0]["images"]
    browser.open(page)

    def ids(key: str) -> list[str]:
        return [one["id"] for one in sorted(images, key=lambda one: -one[key])]

    assert browser.run(SHOWN_IDS)[:8] == ids("error")[:8]
    set_control(browser, "#sort", "worst")
    assert browser.run(SHOWN_IDS)[:8] == ids("worst")[:8]
    set_control(browser, "#sort", "missed")
    assert browser.run(SHOWN_IDS)[:8] == ids("missed")[:8]
    set_control(browser, "#sort", "name")
    set_control(browser, "#order", "up")
    assert browser.run(SHOWN_IDS)[:3] == ["0", "4", "8"]
    set_control(browser, "#group", "session_2")
    assert shown(browser) == (15, 0)
    assert browser.run("document.getElementById('counter').textContent") == "15 / 60 images"
    set_control(browser, "#missed", "yes")
    expected = sum(one["group"] == "session_2" and one["missed"] > 0 for one in images)
    assert 0 < expected < 15
    assert shown(browser) == (expected, 0)
    browser.wait("location.hash === '#group=session_2&missed=yes&sort=name&order=up'")
    browser.run("document.getElementById('clear').click()")
    set_control(browser, "#q", "FRAME_000")
    assert shown(browser) == (10, 0)
    set_control(browser, "#q", "nothing of this name")
    assert browser.run("document.getElementById('nothing').innerText") == "No image passes these filters."
    browser.open(page, "#group=session_2&missed=yes&sort=nonsense&channel=unknown&open=99")
    assert shown(browser) == (expected, 0)


def test_keypoint_filter_sorts_by_its_own_error(browser: Browser, report: Report, page: Path) -> None:
    errors = {}
    for image in report[0]["images"]:
        for label, prediction in image["lines"]:
            channel, *place = image["labels"][label]
            if channel == 9:
                found = image["predictions"][prediction]
                errors[image["id"]] = np.hypot(found[1] - place[0], found[2] - place[1])
    browser.open(page)
    browser.run("[...document.querySelectorAll('#table tbody button')][9].click()")
    assert browser.run("document.getElementById('channel').value") == "tail_base"
    order = sorted(errors, key=lambda one: -errors[one])
    assert browser.run(SHOWN_IDS)[:6] == order[:6]
    caption = browser.run(f"document.querySelector('.cell[data-image=\"{order[0]}\"] .facts').innerText")
    assert f"{errors[order[0]]:.{2 if errors[order[0]] < 10 else 1}f} px" in caption
    set_control(browser, "#missed", "yes")
    assert shown(browser) == (60 - len(errors), 0)


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.resize(width, 800)
    try:
        for fragment in ("", "#open=1"):
            browser.open(page, fragment)
            browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("document.getElementById('zoom').scrollWidth") <= width
            assert browser.run("document.getElementById('grid').scrollWidth") <= width
    finally:
        browser.resize(1200, 800)


def test_charts_and_cards_follow_the_width(browser: Browser, page: Path) -> None:
    try:
        browser.open(page)
        browser.resize(700, 800)
        box = "document.querySelector('.plot').viewBox.baseVal.width"
        browser.wait(f"Math.abs({box} - document.querySelector('.plot').clientWidth) < 1 && {box} > 600")
        browser.wait("document.querySelector('.pick').getBoundingClientRect().width > 320")
        assert shown(browser) == (60, 0)
    finally:
        browser.resize(1200, 800)


def test_names_are_never_html(browser: Browser, tmp_path: Path) -> None:
    image = {"id": "1", "name": HOSTILE, "group": HOSTILE, "w": 40, "h": 30, "error": 1.0, "pick": "worst"}
    points = {"labels": [[0, 5, 5, 2]], "predictions": [[0, 6, 5, 0.5], [0, 9, 9, 0.5]], "lines": [[0, 0]]}
    cells = [{"value": 1, "interval": [0, 2]}]
    curve = {"channel": HOSTILE, "threshold": HOSTILE, "ap": 1, "recall": [0, 1], "precision": [1, 0]}
    content = {
        "title": HOSTILE, "subtitle": HOSTILE, "notes": [HOSTILE],
        "contract": [[HOSTILE, HOSTILE]], "hash": HOSTILE,
        "headline": [{"name": HOSTILE, "label": HOSTILE, "value": 1, "interval": None, "meaning": HOSTILE}],
        "perKeypoint": {
            "columns": [{"name": HOSTILE, "label": HOSTILE, "better": "high", "digits": 2}],
            "rows": [{"channel": HOSTILE, "colour": "#e69f00", "labels": 1, "cells": cells}],
        },
        "charts": {
            "errors": {"edges": [0, 1], "channels": {HOSTILE: [1]}, "beyond": 0, "missed": 0},
            "precisionRecall": [curve],
            "training": [{"title": HOSTILE, "log": True, "series": [{"name": HOSTILE, "x": [1], "y": [1]}]}],
        },
        "channels": [{"name": HOSTILE, "colour": "#e69f00"}],
        "images": [image | points], "config": HOSTILE, "environment": [[HOSTILE, HOSTILE]],
    }  # fmt: skip
    page = tmp_path / "report.html"
    write_page(content, [], [], page)
    browser.open(page, "#open=1")
    assert shown(browser) == (1, 0)
    assert browser.run("document.body.dataset.hacked === undefined")
    assert browser.run("document.querySelectorAll('img').length") == 2  # the viewer's own
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.run("document.body.innerText + document.title").count(HOSTILE) >= 18
    assert browser.run("document.querySelector('#details .path').textContent") == HOSTILE


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"images": [], "charts": {}, "perKeypoint": None, "channels": [], "headline": [], "environment": []},
        {"charts": {"errors": None, "pck": None, "precisionRecall": [], "training": []}, "config": None},
        {"images": [{"id": "1", "name": "a", "w": 40, "h": 30, "error": None, "missed": None}]},
        {"channels": [{"name": "a", "colour": "#e69f00"}], "charts": {"precisionRecall": [
            {"channel": "a", "threshold": "2px", "ap": None, "recall": [], "precision": []}]}},
        {"charts": {"training": [
            {"title": "loss", "log": True, "series": [{"name": "a", "x": [0], "y": [0]}]}]}},
    ],
)  # fmt: skip
def test_empty_parts_are_left_out(browser: Browser, tmp_path: Path, content: dict[str, Any]) -> None:
    page = tmp_path / "report.html"
    write_page({"title": "little", **content}, [], [], page)
    browser.open(page)
    assert shown(browser) == (len(content.get("images", [])), 0)
    parts = browser.run("[...document.querySelectorAll('main > section:not([hidden])')].map((one) => one.id)")
    expected = {"images": bool(content.get("images"))}
    charts = content.get("charts", {})
    expected["charts"] = any(charts.get(name) for name in ("precisionRecall", "training"))
    assert parts == ["numbers", *(name for name in ("charts", "images") if expected[name])]


def test_two_thousand_images_keep_few_elements(browser: Browser, report: Report, tmp_path: Path) -> None:
    content, _, heatmaps = report
    images = [{**content["images"][number % 60], "id": str(number)} for number in range(2000)]
    images = [image | {"pick": image["pick"] if place < 60 else None} for place, image in enumerate(images)]
    small = [encode(".jpg", np.full((192, 256, 3), number % 250, np.uint8)) for number in range(2000)]
    for number, image in enumerate(images):
        image["picture"] = number
    page = tmp_path / "report.html"
    write_page(content | {"images": images}, small, heatmaps, page)
    browser.open(page, "#sort=file&order=up")
    assert shown(browser) == (2000, 0)
    assert (
        float(browser.run("document.body.dataset.loadMs")) < 10_000
    )  # a second here; a loaded machine is slower
    count = "[document.querySelectorAll('*').length, document.querySelectorAll('.cell').length]"
    elements, cells = browser.run(count)
    assert cells <= 60
    assert elements <= 6000
    browser.run("document.getElementById('grid').scrollTop = 1e9")
    browser.wait("document.querySelector('.cell[data-image=\"1999\"] img')?.naturalWidth === 256")
    assert browser.run(count)[1] <= 61
