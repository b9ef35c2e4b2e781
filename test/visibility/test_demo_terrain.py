from pathlib import Path

import pytest

from keypoint_detection.visibility.demo import DemoSize, draw_data, fewer_points, run

TINY = DemoSize(
    n_views=4,
    n_held_out=1,
    images_per_view=2,
    image_hw=(96, 128),
    points_per_image=40,
    training_points=20,
    epochs=1,
    folds=2,
    variant_epochs=1,
    variant_points=20,
    size_hidden=4,
    patch_px=8,
)


def test_the_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    result = run(tmp_path, 0, size=TINY)
    text = capsys.readouterr().out
    assert f"held-out view accuracy {result.accuracy:.3f}" in text
    assert "within 15 % of the truth in" in text
    assert "not trained on: view03" in text
    assert result.page.is_file()
    assert result.comparison is None
    again = run(tmp_path, 0, size=TINY)  # in the folder of the first
    assert again.accuracy == result.accuracy


@pytest.mark.slow
def test_unseen_views_are_judged_right_and_so_is_the_distance(tmp_path: Path) -> None:
    result = run(tmp_path, 8)
    assert result.accuracy >= 0.9
    assert result.share_close >= 0.9


@pytest.mark.slow
def test_the_eight_variants_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    comparison = run(tmp_path, 0, size=TINY, with_variants=True).comparison
    assert comparison is not None
    assert len(comparison.groups) == 8
    assert "is highest" in capsys.readouterr().out
    assert (tmp_path / "variants" / "comparison.png").is_file()


def test_fewer_points_are_the_first_of_each_image(tmp_path: Path) -> None:
    data = draw_data(tmp_path, 0, TINY)
    few = fewer_points(data, ["view02"], 5)
    counts = {name: 0 for name in data.table.image_names}
    for image, xy in zip(few.table.image.tolist(), few.table.xy.tolist(), strict=True):
        own = data.table.xy[data.table.image == image]
        assert xy == own[counts[data.table.image_names[image]]].tolist()
        counts[data.table.image_names[image]] += 1
    assert all(count == (40 if "view02" in name else 5) for name, count in counts.items())


def test_folders_that_no_demo_has_made_are_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "run" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(ValueError, match=r"--output: expected a new folder, or one of an earlier demo"):
        run(tmp_path, 0, size=TINY)
    assert notes.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
