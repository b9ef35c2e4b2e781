import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from headless_browser import PROGRAM, Browser
from judged import ANSWERS, NAN, QUICK, judged, people

from keypoint_detection.gaze.evaluate_files import write_evaluation
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.report import write_report
from keypoint_detection.gaze.report_people import chosen_people

ODD = "<b>ann"
TITLES = ["Worst predictions", "Median predictions", "Best predictions", "Most wrong about in and out"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    part, found = judged(folder)
    table = replace(part.table, person=(ODD, *part.table.person[1:]))
    content = write_evaluation(
        folder / "eval", table, found, resampling=QUICK, about={"decoder": "diffusion"}
    )
    return write_report(
        folder / "eval", images=folder, judged=found, others={"direct": content}, title="Eyes & <i>"
    )


def test_the_page_is_one_file_with_everything_in_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.name == "report.html"
    assert not re.findall(r"(?:src|srcset|href)=[\"'](?!data:)", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text
    assert text.count("<source media=") == 3
    assert not re.search(r"\{\{[A-Z]+\}\}", text)


def test_names_are_text_not_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert ODD not in text
    assert "&lt;b&gt;ann" in text
    assert "Eyes &amp; &lt;i&gt;" in text


def test_the_table_has_the_rows_of_all(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row" data-key="([^"]*)"', text) == (
        ["diffusion", "direct", "centre bias", "chance"]
    )
    assert "4 people in 2 images (2 inside, 1 outside, 1 unknown); 4 maps of each" in text
    assert ">nan<" not in text


def test_people_are_shown_with_what_was_said(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "distance 0.200 to 2 annotators" in text
    assert "candidates 75 % / 25 %" in text
    assert text.count("data:image/jpeg") == 2  # bob is the worst, ann too; nobody is left for other kinds


def crowd(distance: np.ndarray) -> GazeTable:
    n = len(distance)
    return replace(
        people().select([0] * n),
        person=tuple(f"{index:02d}" for index in range(n)),
        in_frame=np.where(np.isnan(distance), 0, 1).astype(np.int8),
        gaze_xy=np.where(np.isnan(distance)[:, None, None], NAN, people().gaze_xy[[0] * n]),
    )


def test_worst_people_are_the_worst_and_the_median_is_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    distance = rng.permutation(np.r_[np.arange(19) / 20, NAN])
    chosen = chosen_people(crowd(distance), distance, np.full(20, 0.9), 3)
    assert list(chosen) == TITLES
    np.testing.assert_allclose(distance[chosen[TITLES[0]]], [0.9, 0.85, 0.8])
    np.testing.assert_allclose(distance[chosen[TITLES[1]]], [0.5, 0.45, 0.4])
    np.testing.assert_allclose(distance[chosen[TITLES[2]]], [0.0, 0.05, 0.1])
    assert chosen[TITLES[3]] == np.flatnonzero(np.isnan(distance)).tolist()  # said to be inside with 0.9


def test_the_order_of_people_does_not_choose() -> None:
    distance = np.round(np.random.default_rng(0).random(30), 1)
    table, p_in, order = crowd(distance), np.linspace(0, 1, 30), np.random.default_rng(1).permutation(30)
    one = chosen_people(table, distance, p_in, 4)
    other = chosen_people(table.select(order), distance[order], p_in[order], 4)
    for title in TITLES:
        assert [table.person[row] for row in one[title]] == [table.person[order[row]] for row in other[title]]


def test_nobody_comes_twice_and_nobody_is_fine() -> None:
    distance = np.array([0.1, 0.2, 0.3])
    chosen = chosen_people(crowd(distance), distance, np.ones(3), 2)
    assert [chosen[title] for title in TITLES] == [[2, 1], [], [0], []]
    nothing = np.full(3, NAN)
    assert not any(chosen_people(crowd(nothing), nothing, np.zeros(3), 2).values())


def test_people_without_targets_and_pictures_make_a_shorter_page(tmp_path: Path) -> None:
    part, found = judged(tmp_path, people().select([2, 3]))
    write_evaluation(tmp_path / "eval", part.table, found, resampling=QUICK)
    text = write_report(tmp_path / "eval", tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<source media=" not in text
    assert "Figures" not in text
    assert "data:image/jpeg" not in text
    assert "got 0 inside and 1 outside" in text
    unknown = people().select([3])
    (tmp_path / "other").mkdir()
    part, found = judged(tmp_path / "other", unknown)
    write_evaluation(tmp_path / "other", unknown, found, resampling=QUICK)
    assert "<source media=" not in write_report(tmp_path / "other").read_text(encoding="utf-8")


def test_a_page_can_be_made_again_without_the_maps(tmp_path: Path) -> None:
    part, found = judged(tmp_path, places={name: places[:1] for name, places in ANSWERS.items()})
    write_evaluation(tmp_path / "eval", part.table, found, resampling=QUICK)
    text = write_report(tmp_path / "eval", images=tmp_path).read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 2
    assert text.count("<source media=") == 2  # one map has no spread


def test_what_is_missing_is_named_and_no_half_page_is_left(tmp_path: Path) -> None:
    part, found = judged(tmp_path)
    write_evaluation(tmp_path / "eval", part.table, found, resampling=QUICK)
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        write_report(tmp_path / "eval", images=tmp_path)
    assert not (tmp_path / "eval" / "report.html").exists()
    with pytest.raises(ValueError, match="got the folder"):
        write_report(tmp_path / "eval", tmp_path)


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
def test_the_page_runs_sorts_and_fits_a_phone(page: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    try:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=False
        )
        browser.call("Page.enable")
        browser.call("Page.navigate", url=page.as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelectorAll('table').length === 1")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        button = "document.querySelectorAll('thead button')[2].click()"
        browser.run(button)
        first = "document.querySelector('tbody th').textContent"
        assert browser.run(first) in ("diffusion", "direct")  # the shortest distance
        browser.run(button)
        assert browser.run(first) == "chance"
        assert browser.run("document.body.dataset.errors") == "0"
        assert [url for url in browser.requests if not url.startswith(("data:", "file:"))] == []
    finally:
        browser.close()
