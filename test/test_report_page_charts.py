"""The report in a real browser: its charts, and the colours of both schemes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import NAMES, PROGRAM, Browser
from reporting import Report, make_report, set_control

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


def texts(browser: Browser, place: int, selector: str) -> list[str]:
    """Return the texts of elements of a chart, counted from 1."""
    chosen = f"document.querySelectorAll('.chart:nth-child({place}) {selector}')"
    return browser.run(f"[...{chosen}].map((one) => one.textContent)")


def test_charts_switch_series_and_read_out(browser: Browser, report: Report, page: Path) -> None:
    browser.open(page)
    charts = report[0]["charts"]
    titles = browser.run("[...document.querySelectorAll('.chart h3')].map((one) => one.textContent)")
    assert len(titles) == 5
    curves = "document.querySelectorAll('.chart:nth-child(2) .series').length"
    assert browser.run(curves) == 13
    browser.run("document.querySelector('.chart:nth-child(2) .legend [data-series=nose]').click()")
    assert browser.run(curves) == 12
    browser.run("document.querySelectorAll('.chart:nth-child(2) .set-all')[1].click()")
    assert browser.run(curves) == 0
    read = "document.querySelector('.chart:nth-child({}) .chart-readout').textContent"
    browser.run("document.querySelector('.chart:nth-child(1) .plot').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    counts = sum(channel[1] for channel in charts["errors"]["channels"].values())
    assert browser.run(read.format(1)).startswith(f"0.5 to 1 px: {counts} points;")
    words = browser.run("document.querySelector('.chart:nth-child(1) .words').innerText")
    assert "3 points further off than 12 px. 41 labels missed." in words
    set_control(browser, ".chart:nth-child(1) select", "nose")
    bars = "document.querySelectorAll('.chart:nth-child(1) .bars rect').length"
    assert browser.run(bars) == sum(count > 0 for count in charts["errors"]["channels"]["nose"])
    set_control(browser, ".chart:nth-child(3) select", "8px")
    assert texts(browser, 3, ".legend [data-series]")[0] == f"nose {0.98 + 0.08:.3f}"
    browser.wait("location.hash === '#errors=nose&threshold=8px'")
    x, y, width, height = (
        browser.run("""(() => { const plot = document.querySelector('.chart:nth-child(4) .plot');
        plot.scrollIntoView({block: 'center'}); const box = plot.getBoundingClientRect();
        return [box.x, box.y, box.width, box.height]; })()""")
    )
    browser.mouse("mouseMoved", x + width / 2, y + height / 2)
    assert browser.run(read.format(4)).startswith(("train: epoch", "validation: epoch"))
    line = "document.querySelector('.chart:nth-child(4) .series[data-series=validation]').getAttribute('d')"
    assert browser.run(line).count("M") == 2  # the undefined value of epoch 7 is not bridged


def test_every_chart_has_axis_titles_and_ticks(browser: Browser, page: Path) -> None:
    browser.open(page)
    for place in range(1, 6):
        titles = texts(browser, place, ".axis-title")
        assert len(titles) == 2
        assert all(titles)
        assert len(texts(browser, place, ".plot text")) >= 2 + 3 + 3
    assert texts(browser, 4, ".axis-title") == ["epoch", "loss (log)"]


CONTRASTS = """(() => {
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const isOpaque = (colour) => colour.startsWith('rgb') && (rgba(colour)[3] ?? 1) === 1;
  const under = (one) => {
    const colour = getComputedStyle(one).backgroundColor;
    return isOpaque(colour) ? rgba(colour) : under(one.parentElement);
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const bad = [];
  for (const one of document.querySelectorAll('main *, header *, nav *')) {
    const isText = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!isText || !one.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(one);
    const found = ratio(rgba(one instanceof SVGElement ? style.fill : style.color), under(one));
    if (found < 4.5) bad.push([one.tagName, one.textContent, found]);
  }
  const lines = [...document.querySelectorAll('.series')]
    .map((one) => ratio(rgba(getComputedStyle(one).stroke), under(one.closest('.card'))));
  return [bad, Math.min(...lines), getComputedStyle(document.body).backgroundColor];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_can_be_read_in_both_schemes(browser: Browser, page: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=features)
    try:
        browser.open(page)
        browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
        bad, least, paper = browser.run(CONTRASTS)
        assert bad == []
        assert least >= 3
        assert paper == {"light": "rgb(246, 246, 244)", "dark": "rgb(22, 24, 27)"}[scheme]
    finally:
        browser.call("Emulation.setEmulatedMedia", features=[])
