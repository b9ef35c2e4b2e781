import pytest

from keypoint_detection.step_profile import PHASES, PhaseTimes, advice


def at(*moments: float) -> PhaseTimes:
    """Return times whose clock shows the given moments one after the other."""
    return PhaseTimes(clock=iter(moments).__next__)


def test_each_moment_counts_for_the_innermost_phase() -> None:
    times = at(0, 1, 3, 6, 10, 15)
    times.start("step", "optimiser")
    times.start("closure", None)  # goes on with the phase around it
    times.start("back", "backward")
    times.stop("back")
    times.stop("closure")
    times.stop("step")
    assert times.seconds["backward"] == 3
    assert times.seconds["optimiser"] == 1 + 2 + 4 + 5
    assert sum(times.seconds.values()) == 15


def test_inside_a_validation_only_checkpoints_and_logging_count_for_themselves() -> None:
    times = at(0, 2, 5, 6, 10)
    times.start("validation", "validation")
    times.start("pass", "forward")
    times.stop("pass")
    times.start("save", "checkpoints")
    times.stop("save")
    assert times.seconds["validation"] == 2 + 3 + 1
    assert times.seconds["checkpoints"] == 4
    assert times.seconds["forward"] == 0


def test_a_phase_may_end_before_one_that_began_later() -> None:
    times = at(0, 1, 2, 4, 5)
    times.start("hook", "logging")
    times.start("validation", "validation")
    times.stop("hook")
    times.stop("validation")
    times.stop("nothing of that name")
    assert times.seconds["logging"] == 1
    assert times.seconds["validation"] == 3
    assert times.seconds["other"] == 1


def test_the_table_has_all_phases_and_their_shares() -> None:
    times = PhaseTimes(n_steps=4)
    times.seconds |= {"forward": 3.0, "backward": 1.0}
    lines = times.table().splitlines()
    assert [line[:20].strip() for line in lines[1:]] == [*PHASES, "total"]
    assert lines[1 + PHASES.index("forward")].split() == ["forward", "3.00", "75.0", "%", "750.0"]
    assert lines[-1].split() == ["total", "4.00", "100.0", "%", "1000.0"]


@pytest.mark.parametrize(
    ("seconds", "n_steps", "device", "expected"),
    [
        ({"data wait": 11, "forward": 89}, 1000, "cpu", ["--num_workers"]),
        ({"data wait": 9, "forward": 50, "optimiser": 41}, 1000, "cpu", ["nothing stands out"]),
        (
            {"forward": 30, "backward": 60, "data wait": 5},
            9,
            "cpu",
            ["6 steps per minute: --image_size 240x320"],
        ),
        ({"forward": 30, "backward": 60}, 900, "cuda", ["--precision bf16-mixed"]),
        ({"validation": 40, "forward": 60}, 900, "cpu", ["--check_val_every_n_epoch"]),
        ({"checkpoints": 6, "logging": 6, "forward": 70}, 900, "cpu", ["written", "--log_every_n_steps"]),
    ],
)
def test_advice_follows_from_the_shares(
    seconds: dict[str, float], n_steps: int, device: str, expected: list[str]
) -> None:
    times = PhaseTimes(n_steps=n_steps)
    times.seconds |= seconds
    found = advice(times, (480, 640), 1, device)
    assert len(found) == len(expected)
    for text, sentence in zip(expected, found, strict=True):
        assert text.replace("written", "write them less often") in sentence


def test_small_maps_are_not_made_smaller() -> None:
    times = PhaseTimes(n_steps=1)
    times.seconds["forward"] = 60
    assert advice(times, (128, 128), 2, "cpu") == [
        "the network dominates, with 1 steps per minute: a smaller backbone, or --frozen_features"
    ]
