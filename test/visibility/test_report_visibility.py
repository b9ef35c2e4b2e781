import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from headless_browser import PROGRAM, Browser

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.evaluate_files import read_evaluation, write_evaluation
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.report import image_rows, write_report

NAMES = ("a/<b>1.png", "a/2.png", "c/3.png", "c/unused.png")
LIMITS_M = (1000.0, 3000.0, 800.0)
ODD_VIEW = "<script>alert(1)</script>"


def evaluated(folder: Path, *, has_depth: bool = True, odd_view: str = ODD_VIEW) -> Path:
    """Write 3 images and their evaluation; the third is judged worst, and its view has an odd name."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(3), 120)
    depth = np.exp(rng.uniform(np.log(100), np.log(20000), 360))
    margin = (np.log(np.array(LIMITS_M)[image]) - np.log(depth)) / 0.1
    label = (margin > 0).astype(np.uint8)
    logits = np.where((image == 2) & (rng.uniform(size=360) < 0.15), -3 * margin, margin)
    table = PointTable(
        image_names=NAMES,
        views=("near", "near", odd_view, "near"),
        image_hw=np.array([[60, 80]] * 4, np.int64),
        image=image,
        xy=rng.uniform(0, 59, (360, 2)),
        depth_m=depth if has_depth else np.full(360, np.nan),
        label=label,
    )
    write_evaluation(folder / "eval", table, logits, resampling=Resampling(n_resamples=20))
    for name in NAMES[:3]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((60, 80, 3), 90, np.uint8))
    return folder / "eval"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    truth = {NAMES[0]: 1000.0, NAMES[1]: 4500.0}
    return write_report(evaluated(folder), images=folder, true_m=truth, title="Hills & <i>", most_images=2)


def test_the_page_is_one_file_with_everything_in_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.name == "report.html"
    assert not re.findall(r"(?:src|srcset|href)=[\"'](?!data:)", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text
    assert text.count("<source media=") == 5
    assert not re.search(r"\{\{[A-Z]+\}\}", text)


def test_names_are_text_not_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert ODD_VIEW not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a/<b>1.png" not in text
    assert "Hills &amp; &lt;i&gt;" in text


def test_the_numbers_are_those_of_the_evaluation(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    metrics = json.loads((page.parent / "metrics.json").read_text())
    for name in ("balanced_accuracy", "auroc", "loss", "ece"):
        assert f'<p class="value">{metrics["metrics"][name]["value"]:.3f}</p>' in text
        assert f"{metrics['views']['near']['metrics'][name]['value']:.3f}<small>" in text
    assert "360 points of 3 images from 2 views" in text
    assert metrics["contract"]["points"] in text


def test_the_worst_images_come_first_and_no_more_than_asked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r'alt="image, truth and prediction of ([^"]*)"', text)
    assert len(shown) == 2
    assert shown[0] == "c/3.png"


def test_estimates_are_held_against_the_truth(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "1 of 2 estimates lie within 15 % of the truth; 1 of 2 intervals hold it" in text
    off = re.findall(r'<span class="off">([+-]\d+) %</span>', text)
    assert len(off) == 1
    assert int(off[0]) == pytest.approx(-33, abs=8)  # 3000 m against 4500 m


def test_rows_of_images_are_their_means(tmp_path: Path) -> None:
    evaluation = read_evaluation(evaluated(tmp_path))
    rows = image_rows(evaluation, {"c/3.png": 800.0})
    assert [row.name for row in rows] == list(NAMES[:3])
    assert [row.n_points for row in rows] == [120, 120, 120]
    assert rows[0].accuracy == 1.0
    chosen = evaluation.table.image == 2
    right = (evaluation.logits[chosen] > 0) == (evaluation.table.label[chosen] == 1)
    assert rows[2].accuracy == pytest.approx(right.mean())
    assert rows[2].loss > rows[0].loss
    for row, limit in zip(rows, LIMITS_M, strict=True):
        assert row.distance is not None
        assert row.distance.value_m == pytest.approx(limit, rel=0.1)
    assert np.isnan(rows[0].true_m)
    assert rows[2].true_m == 800.0


def test_points_without_distances_and_without_images_make_a_shorter_page(tmp_path: Path) -> None:
    folder = evaluated(tmp_path, has_depth=False)
    text = write_report(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Visibility distance" not in text
    assert "Worst images" not in text
    assert text.count("<source media=") == 3


def test_what_is_missing_is_named_and_no_half_page_is_left(tmp_path: Path) -> None:
    folder = evaluated(tmp_path)
    with pytest.raises(FileNotFoundError):
        write_report(folder, images=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="add a file name"):
        write_report(folder, tmp_path)
    assert not (folder / "report.html").exists()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
def test_the_page_runs_sorts_and_fits_a_phone(page: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    try:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=False
        )
        browser.call("Page.enable")
        browser.call("Page.navigate", url=page.as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelectorAll('table').length === 2")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        first = "document.querySelectorAll('table')[1].tBodies[0].rows[0].cells[0].textContent"
        button = (
            "document.querySelectorAll('table')[1].tHead.rows[0].cells[1].querySelector('button').click()"
        )
        browser.run(button)
        assert browser.run(first) == "c/3.png"  # the shortest distance, 800 m
        browser.run(button)
        assert browser.run(first) == "a/2.png"  # the longest, 3000 m
        assert browser.run("document.body.dataset.errors") == "0"
        assert [url for url in browser.requests if not url.startswith(("data:", "file:"))] == []
    finally:
        browser.close()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("view", "is_cut"), [("near", False), (ODD_VIEW, True)])
def test_one_confusion_matrix_fits_a_phone_and_several_are_legible(
    view: str, is_cut: bool, tmp_path: Path
) -> None:
    page = write_report(evaluated(tmp_path, odd_view=view))
    browser = Browser(tmp_path / "browser")
    try:
        browser.resize(360, 800)
        browser.call("Page.enable")
        browser.call("Page.navigate", url=page.as_uri())
        browser.wait(
            "document.readyState === 'complete' && document.querySelectorAll('.charts img').length > 2"
        )
        pan = "document.querySelector('.pan[aria-label=\"Confusion\"]')"
        shown, whole = (browser.run(f"{pan}.{width}") for width in ("clientWidth", "scrollWidth"))
        assert 250 < shown < 360
        assert (whole > shown) == is_cut
        assert browser.run("document.documentElement.scrollWidth") <= 360
    finally:
        browser.close()
