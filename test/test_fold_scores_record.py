import json

import pytest
from scored_folds import error_sheet, write_cross_validation, write_evaluation

from keypoint_detection.fold_scores_record import (
    CrossValidationRecord,
    FoldProgress,
    PlannedFold,
    is_cross_validation,
    read_record,
    read_scored_folds,
)

SHEETS = {"a": error_sheet([3, 1], [1.0, 2.0], ("u", "v")), "b": error_sheet([2, 4], [3.0, 4.0], ("w", "x"))}


def test_a_record_comes_back_as_it_was(tmp_path) -> None:
    record = CrossValidationRecord(
        {"config": {"seed": 3}},
        (PlannedFold("a", (1, 2), ("u", "v")), PlannedFold("b", (5,))),
        {"a": FoldProgress(True, "ab"), "b": FoldProgress()},
        {"unit": "image"},
    )
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    assert is_cross_validation(tmp_path)
    assert not is_cross_validation(tmp_path / "none")
    assert not is_cross_validation(tmp_path / "cross_validation.json")


@pytest.mark.parametrize(
    ("content", "part"),
    [("", ""), ("[]", ""), ("{}", "format"), ('{"format": "x", "version": 1}', "version 1"), ('{"fol', "")],
)
def test_a_broken_record_is_one_line(content, part, tmp_path) -> None:
    (tmp_path / "cross_validation.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        read_record(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'cross_validation.json'}: expected the record of a")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_folds_are_read_with_the_groups_of_the_split(tmp_path) -> None:
    folder = write_cross_validation(tmp_path / "cv", SHEETS)
    found = read_scored_folds(folder)
    assert list(found.folds) == ["a", "b"]
    assert found.sheets["a"].image_ids.tolist() == [1, 3]
    assert found.sheets["a"].groups == ("v", "u")
    assert found.sheets["a"].values()["mean_error_px"] == 1.5
    other = write_cross_validation(tmp_path / "other", SHEETS)
    assert read_scored_folds(other).contract_hash == found.contract_hash
    third = write_cross_validation(tmp_path / "third", SHEETS, {"thresholds": [4.0]})
    assert read_scored_folds(third).contract_hash != found.contract_hash


def test_an_unfinished_cross_validation_is_refused(tmp_path) -> None:
    folder = write_cross_validation(tmp_path / "cv", SHEETS)
    record = json.loads((folder / "cross_validation.json").read_text())
    record["progress"]["b"]["scored"] = None
    (folder / "cross_validation.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="1 of 2 folds are scored, the first that is not is b; finish it"):
        read_scored_folds(folder)


def test_a_fold_that_was_scored_by_hand_since_is_not_that_of_its_training(tmp_path) -> None:
    folder = write_cross_validation(tmp_path / "cv", SHEETS)
    write_evaluation(folder / "a", error_sheet([1, 3], [9.0, 9.0]))
    with pytest.raises(ValueError, match="1 of 2 folds are scored, the first that is not is a"):
        read_scored_folds(folder)
