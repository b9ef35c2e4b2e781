"""The curves of a training, from files as Lightning writes them."""

from pathlib import Path

from keypoint_detection.report_training import training_curves


def lines_of(folder: Path) -> dict[str, dict[int, float]]:
    charts = training_curves(folder)
    return {
        f"{chart['title']}: {line['name']}": dict(zip(line["x"], line["y"], strict=True))
        for chart in charts
        for line in chart["series"]
    }


def test_the_parts_of_a_resumed_run_are_one_curve(tmp_path: Path) -> None:
    """A resumed run renames the file that is there: 1 is the oldest, and 10 comes after 2."""
    head = "epoch,train/loss_epoch,validation/map\n"
    (tmp_path / "metrics-1.csv").write_text(head + "0,9,\n0,,0.1\n1,8,\n2,7,\n")
    (tmp_path / "metrics-2.csv").write_text(head + "1,6,\n2,5,\n")  # went on from the end of epoch 0
    (tmp_path / "metrics-10.csv").write_text("epoch,train/loss_epoch\n3,4\n")
    (tmp_path / "metrics.csv").write_text(head + "4,3,0.5\n")
    (tmp_path / "metrics-old.csv").write_text(head + "0,100,1\n")
    (tmp_path / "metrics-1.csv.txt").write_text(head + "0,100,1\n")
    assert lines_of(tmp_path) == {
        "loss: train": {0: 9.0, 1: 6.0, 2: 5.0, 3: 4.0, 4: 3.0},
        "average precision: map": {0: 0.1, 4: 0.5},
    }


def test_only_an_earlier_part_is_enough_and_no_file_is_no_curve(tmp_path: Path) -> None:
    assert training_curves(tmp_path) == []
    (tmp_path / "metrics-1.csv").write_text("epoch,train/loss\n0,2\nnan,3\n1,inf\n")
    assert lines_of(tmp_path) == {"loss: train": {0: 2.0}}
