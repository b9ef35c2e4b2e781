import json
import re
from pathlib import Path

import cv2
import pytest
import torch

from keypoint_detection import checkpoint_benchmark as benchmark
from keypoint_detection.checkpoint_benchmark import (
    LEAST_RUNS,
    STAGES,
    BatchTiming,
    CheckpointTiming,
    benchmark_checkpoint,
    timing_table,
)
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.utils.load_checkpoints import load_model

BY_HAND = BatchTiming(
    4,
    {
        "read": [0.010, 0.010, 0.010],
        "prepare": [0.005, 0.005, 0.005],
        "network": [0.080, 0.060, 0.100],
        "decode": [0.003, 0.003, 0.003],
        "write": [0.002, 0.002, 0.002],
    },
)
CONDITIONS = {"image_hw": (48, 64), "device": "cpu", "device_name": "Abacus", "threads": 3}


def test_numbers_by_hand() -> None:
    assert BY_HAND.latencies == pytest.approx([0.1, 0.08, 0.12])
    assert BY_HAND.latency_ms(50) == pytest.approx(100)
    assert BY_HAND.latency_ms(95) == pytest.approx(118)  # 0.9 of the way from 100 to 120
    assert BY_HAND.network_rate == pytest.approx(12 / 0.24)
    assert BY_HAND.whole_rate == pytest.approx(12 / 0.30)
    shares = {"read": 0.1, "prepare": 0.05, "network": 0.8, "decode": 0.03, "write": 0.02}
    assert BY_HAND.shares == pytest.approx(shares)


def test_the_table_by_hand() -> None:
    timing = CheckpointTiming("a.ckpt", input_hw=(48, 64), batches=[BY_HAND], **CONDITIONS)
    lines = timing_table(timing).splitlines()
    assert lines[0] == f"- torch {torch.__version__}, 3 threads, Abacus, 48x64 images, a.ckpt"
    heading, dashes, row = lines[-3:]
    assert len({len(line) for line in (heading, dashes, row)}) == 1
    assert set(dashes) == set("|-: ")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["4", "100.0", "118.0", "50.0", "40.0", "10.0", "5.0", "80.0", "3.0", "2.0", "3"]
    assert heading.count("|") == dashes.count("|") == row.count("|")
    letterboxed = CheckpointTiming("a.ckpt", input_hw=(32, 32), batches=[BY_HAND], **CONDITIONS)
    assert "48x64 images (the network sees 32x32)" in timing_table(letterboxed)


def test_a_checkpoint_is_timed(tiny_checkpoint: Path) -> None:
    threads = torch.get_num_threads()
    timing = benchmark_checkpoint(
        tiny_checkpoint, image_size=(20, 33), batch_sizes=(1, 3), seconds=0, threads=1
    )
    assert torch.get_num_threads() == threads
    assert (timing.threads, timing.image_hw, timing.input_hw) == (1, (20, 33), (20, 33))
    assert [batch.batch_size for batch in timing.batches] == [1, 3]
    for batch in timing.batches:
        assert tuple(batch.seconds) == STAGES
        assert [len(times) for times in batch.seconds.values()] == [LEAST_RUNS] * len(STAGES)
        assert min(min(times) for times in batch.seconds.values()) > 0
        assert sum(batch.shares.values()) == pytest.approx(1)
        assert batch.latency_ms(95) >= batch.latency_ms(50) > 0
        assert batch.network_rate > batch.whole_rate > 0
    text = timing_table(timing)
    assert "20x33 images" in text
    assert len(re.findall(r"^\| +[13] \|", text, re.MULTILINE)) == 2


def small_detector(n_channels_in: int = 3, **options) -> KeypointDetector:
    backbone = {"n_channels": 4, "n_channels_in": n_channels_in}
    return KeypointDetector([["a"], ["b"]], "Unet", backbone, **options).eval()


@pytest.mark.parametrize("n_channels", [1, 3])
def test_what_the_stages_do(n_channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small_detector(n_channels, image_size=[24, 40], max_keypoints=3)
    files = benchmark._draw_files(tmp_path, (50, 70), n_channels)
    stored = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files]
    assert all(image.shape == ((50, 70) if n_channels == 1 else (50, 70, 3)) for image in stored)
    assert len({image.tobytes() for image in stored}) == len(files)
    seen: list[tuple[int, ...]] = []
    detector.register_forward_hook(lambda _module, args, _output: seen.append(tuple(args[0].shape)))
    output = tmp_path / "points.jsonl"
    with output.open("w") as file:
        timing = benchmark._time_batches(detector, files, 6, 0, file)
    assert seen == [(6, n_channels, 24, 40)] * (LEAST_RUNS + 1)
    assert len(timing.latencies) == LEAST_RUNS  # the first batch does not count
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(written) == 6 * (LEAST_RUNS + 1)
    monkeypatch.undo()
    expected = [prediction.to_dict() for prediction in detector.predict([*files, *files[:2]], batch_size=6)]
    assert written[:6] == expected


def test_direct_regression_is_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "load_model", lambda path, device: small_detector(head="regression"))
    timing = benchmark_checkpoint("any.ckpt", image_size=(1, 1), batch_sizes=[2], seconds=0)
    assert sum(timing.batches[0].shares.values()) == pytest.approx(1)


def test_time_goes_on_until_the_seconds_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: float(next(clock)))
    with (tmp_path / "points.jsonl").open("w") as output:
        files = benchmark._draw_files(tmp_path, (8, 8), 3)
        timing = benchmark._time_batches(small_detector(), files, 1, 60.0, output)
    # a batch asks the clock twice per stage and once for the end: 11 ticks
    assert len(timing.latencies) == 6
    assert timing.latencies == [5.0] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (0, 5)}, "expected a height and width of at least 1 px, got 0x5"),
        ({"batch_sizes": (1, 0)}, r"expected batch sizes of at least 1, such as 1 4 16, got \[1, 0\]"),
        ({"batch_sizes": ()}, r"expected batch sizes of at least 1, such as 1 4 16, got \[\]"),
        ({"threads": 0}, "expected at least 1 thread, got 0"),
    ],
)
def test_what_cannot_be_measured(arguments: dict, message: str, tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        benchmark_checkpoint(tiny_checkpoint, **{"image_size": (32, 32), **arguments})


def test_a_gpu_that_is_not_there(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^expected a GPU for device cuda, found none; use cpu$"):
        benchmark_checkpoint(tiny_checkpoint, image_size=(32, 32), device="cuda")


def test_bad_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint at .*none\.ckpt: expected [^\n]*$"):
        benchmark_checkpoint(tmp_path / "none.ckpt", image_size=(32, 32))
    (tmp_path / "text.ckpt").write_text("text")
    with pytest.raises(ValueError, match=r"text\.ckpt is not a checkpoint: expected [^\n]*$"):
        benchmark_checkpoint(tmp_path / "text.ckpt", image_size=(32, 32))
    monkeypatch.setattr(benchmark, "load_model", lambda path, device: small_detector(5))
    with pytest.raises(ValueError, match=r"five\.ckpt: expected a model of 1 or 3 image channels, [^\n]* 5$"):
        benchmark_checkpoint("five.ckpt", image_size=(32, 32))


def test_points_are_those_of_predict(tiny_checkpoint: Path, tmp_path: Path) -> None:
    detector = load_model(tiny_checkpoint)
    files = benchmark._draw_files(tmp_path, (64, 64), 3)
    with (tmp_path / "points.jsonl").open("w") as output:
        benchmark._time_stages(detector, files, output)
    written = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    assert written == [prediction.to_dict() for prediction in detector.predict(files)]
    assert any(written[0]["keypoints"].values())
