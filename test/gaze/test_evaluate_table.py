import pytest

from keypoint_detection.gaze.evaluate_table import METRICS, people_text, score_rows, scores_text
from keypoint_detection.metric_contract import with_hash


def content(decoder: str, auc: float, people: str = "abc", reason: str | None = None) -> dict:
    numbers: dict = {name: {"value": 0.5, "interval": None} for name in METRICS}
    numbers["auc"] = {"value": auc, "interval": [auc - 0.125, auc + 0.0625]}
    if reason is not None:
        for name in ("in_out_ap", "sample_spread"):
            numbers[name] = {"value": None, "interval": None, "reason": reason}
    counts = {"n_people": 7, "n_images": 3, "n_inside": 4, "n_outside": 2, "n_unknown": 1}
    return {
        "contract": with_hash({"people": people, **counts}),
        "metrics": numbers,
        "baselines": {
            "centre bias": {"auc": {"value": 0.75, "interval": None}},
            "chance": {"auc": {"value": 0.5, "interval": None}},
        },
        "intervals": {"level": 0.9},
        "samples": 8,
        "about": {"decoder": decoder},
    }


def test_rows_are_model_others_centre_and_chance() -> None:
    lines = scores_text(content("diffusion", 0.9), others={"direct": content("direct", 0.8)}).splitlines()
    assert [line[:13].strip() for line in lines[1:6]] == (
        ["diffusion", "90 % interval"[:11], "direct", "centre bias", "chance"]
    )
    assert lines[0].split("  ")[-1] == "spread"
    assert lines[1].split()[1] == "0.900"
    assert lines[2].split()[3] == "0.775-0.963"
    assert lines[1].split()[4] == "0.5"  # angles have one digit
    assert lines[3].split()[1] == "0.800"
    assert lines[4].split()[2:] == ["0.750", *["-"] * 6]
    assert lines[6] == "7 people in 3 images (4 inside, 2 outside, 1 unknown); 8 maps of each"
    assert len({len(line) for line in lines[0:2]}) == 1  # columns line up


def test_reasons_are_printed_once() -> None:
    text = scores_text(content("direct", 0.9, reason="needs more"))
    assert "in/out AP, spread: needs more" in text.splitlines()
    assert text.count("needs more") == 1


def test_baselines_can_be_given() -> None:
    rows = score_rows(content("direct", 0.9), {"guess": {"auc": {"value": 0.1, "interval": None}}})
    assert [row.name for row in rows] == ["direct", "guess"]


def test_others_of_other_people_are_refused() -> None:
    with pytest.raises(ValueError, match=r'direct and other are scored by different .* people "abc" / "xyz"'):
        score_rows(content("direct", 0.9), others={"other": content("direct", 0.8, people="xyz")})


def test_one_map_is_one() -> None:
    assert people_text({**content("direct", 0.9), "samples": 1}).endswith("; 1 map of each")
