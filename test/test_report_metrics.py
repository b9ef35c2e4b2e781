from keypoint_detection.report_metrics import headline


def test_the_scores_of_visibility_come_before_further_errors_with_labels_and_meanings() -> None:
    names = ("rmse_px", "visibility_auroc", "nme", "visibility_accuracy", "missed")
    rows = headline({"contract": {}, "metrics": {name: {"value": 0.5} for name in names}})
    assert [row["name"] for row in rows] == [
        *("missed", "visibility_accuracy", "visibility_auroc", "nme", "rmse_px")
    ]
    assert [row["label"] for row in rows[1:3]] == ["Visibility accuracy", "Visibility AUROC"]
    assert "mean over these two classes" in rows[1]["meaning"]
    assert "0.5 is guessing" in rows[2]["meaning"]
