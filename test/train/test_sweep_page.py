import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from keypoint_detection.train.sweep_page import number_axis, parameter_axis, write_page
from keypoint_detection.train.sweep_plan import SweepPlan
from keypoint_detection.train.sweep_space import Parameter
from keypoint_detection.train.sweep_study import SweepStudy, TrialRecord


def test_numbers_lie_between_their_ends_on_either_scale() -> None:
    assert number_axis([1.0, 2.0, 3.0]).places == [0.0, 0.5, 1.0]
    axis = number_axis([1e-4, 1e-3, 1e-2], logarithmic=True)
    assert axis.places == pytest.approx([0.0, 0.5, 1.0])
    assert [text for _, text in axis.ticks] == ["0.0001", "0.001", "0.01"]
    assert number_axis([5.0, 5.0]).places == [0.5, 0.5]


def test_choices_are_spread_evenly() -> None:
    parameter = Parameter("p", "categorical", (4, [8], None))
    trials = [TrialRecord(n, n, "finished", {"p": value}) for n, value in enumerate((None, 4, [8]))]
    axis = parameter_axis(parameter, trials)
    assert axis.places == [1.0, 0.0, 0.5]
    assert [text for _, text in axis.ticks] == ["4", "[8]", "None"]


class Page(HTMLParser):
    """Count what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.tags)


def test_the_page_shows_every_trial_and_needs_no_other_file(tmp_path: Path) -> None:
    parameters = (
        Parameter("rate", "log", low=1e-4, high=1e-1),
        Parameter("name", "categorical", ("<b>", "plain")),
        Parameter("fixed", "constant", (1,)),
    )
    study = SweepStudy(tmp_path, SweepPlan("random", "map", "maximize", None, parameters, None))
    write_page(study, tmp_path / "sweep.html")
    assert "no trial has finished yet" in (tmp_path / "sweep.html").read_text()
    for score in (0.2, 0.6, 0.4):
        study.finish(study.ask().number, score)
    study.fail(study.ask().number, 'no "memory" <left>')
    write_page(study, tmp_path / "sweep.html")
    text = (tmp_path / "sweep.html").read_text()
    page = Page(text)
    assert page.count("tr") == 1 + 4
    assert page.count("svg") == 3, "by trial, rate and name; one value alone is no picture"
    assert page.count("circle") == 9
    assert page.count("circle", **{"class": "best"}) == 3
    assert "best: trial 2 with 0.6" in text
    assert "<b>" not in text
    assert "no &quot;memory&quot; &lt;left&gt;" in text
    assert not re.search(r"(src|href)=", text)
    assert "{{" not in text
