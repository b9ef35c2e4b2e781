from pathlib import Path

import pytest

from keypoint_detection import demo
from keypoint_detection.__main__ import main


def test_the_demo_walks_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Walk it with few images and one epoch; the slow test below walks its full length."""
    monkeypatch.setattr(demo, "N_TRAIN", 8)
    monkeypatch.setattr(demo, "N_UNSEEN", 4)
    monkeypatch.setattr(demo, "MAX_EPOCHS", 1)
    assert main(["demo", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert len(list((tmp_path / "out" / "predictions" / "overlays").glob("*.png"))) == 4
    named = [word.rstrip(",") for word in out.split() if word.startswith(str(tmp_path))]
    assert len(named) >= 6
    assert all(Path(path).exists() for path in named)
    assert "AP@2px" in out.splitlines()[-1]


@pytest.mark.slow
def test_the_demo_reaches_what_it_promises(tmp_path: Path) -> None:
    assert demo.run(tmp_path / "demo", seed=2022)["ap@2px"] >= 0.9
