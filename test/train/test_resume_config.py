import pytest
from pydantic import ValidationError

from keypoint_detection.train.resume_config import ResumeConfig


@pytest.mark.parametrize(
    ("written", "steps", "seconds"),
    [
        ("500 steps", 500, None),
        ("1 step", 1, None),
        ("20", 20, None),
        ("10m", None, 600.0),
        ("30 s", None, 30.0),
        ("1.5h", None, 5400.0),
        ("2 minutes", None, 120.0),
    ],
)
def test_intervals(written: str, steps: int | None, seconds: float | None) -> None:
    config = ResumeConfig(checkpoint_every=written)
    assert (config.checkpoint_steps, config.checkpoint_seconds) == (steps, seconds)
    assert ResumeConfig(checkpoint_every=config.checkpoint_every) == config  # config.yaml is read again


def test_the_default_is_ten_minutes() -> None:
    assert ResumeConfig().checkpoint_seconds == 600.0


@pytest.mark.parametrize("written", ["", "0", "0m", "-1 steps", "1.5 steps", "10 days", "often"])
def test_other_intervals_are_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="expected steps or a time above 0, such as '500 steps', 10m"):
        ResumeConfig(checkpoint_every=written)
