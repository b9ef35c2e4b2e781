from pathlib import Path

import pytest

from keypoint_detection.gaze.demo import DemoSize, prepare_folder, run

TINY = DemoSize(
    n_train=24,
    n_unseen=6,
    direct_epochs=1,
    diffusion_epochs=1,
    sampling_steps=2,
    samples=2,
    target_samples=4,
)


def test_the_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    result = run(tmp_path / "demo", 0, size=TINY)
    text = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert {"diffusion", "direct", "centre bias", "chance"} <= set(rows)
    value = result.metrics["diffusion"]["metrics"]["avg_distance"]["value"]
    assert f"{value:.3f}" in rows["diffusion"]
    assert result.page.is_file()
    assert "direct" in result.page.read_text(encoding="utf-8")
    assert result.shares is None
    again = run(tmp_path / "demo", 0, size=TINY)  # in the folder of the first
    assert again.metrics["direct"]["metrics"] == result.metrics["direct"]["metrics"]
    assert again.metrics["diffusion"]["metrics"] == result.metrics["diffusion"]["metrics"]


def test_scenes_with_two_targets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    result = run(tmp_path, 0, size=TINY, ambiguous=True)
    assert result.shares is not None
    assert result.shares["diffusion"].samples.shape == (6, 2)
    assert set(result.shares["direct"].samples.ravel()) <= {0.0, 1.0}  # it has one map
    assert "of 6 scenes" in capsys.readouterr().out


def test_what_no_demo_has_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="no demo has made it; choose another --output"):
        prepare_folder(tmp_path)
    assert (tmp_path / "scenes" / "mine.png").read_bytes() == b"mine"


@pytest.mark.slow
def test_unseen_people_are_followed(tmp_path: Path) -> None:
    metrics = run(tmp_path).metrics["diffusion"]["metrics"]
    assert metrics["avg_distance"]["value"] <= 0.08
    assert metrics["in_out_ap"]["value"] >= 0.9
    assert metrics["auc"]["value"] >= 0.9


@pytest.mark.slow
def test_samples_find_both_targets_and_the_direct_decoder_one(tmp_path: Path) -> None:
    shares = run(tmp_path, ambiguous=True).shares
    assert shares is not None
    both = (shares["diffusion"].samples >= 0.25).all(1)
    one = shares["direct"].mean_map_hits.sum(1) == 1
    print(f"both found: {both.mean():.3f}; direct decoder hits one: {one.mean():.3f}")
    assert both.mean() >= 0.9
    assert one.mean() >= 0.9
