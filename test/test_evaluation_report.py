from keypoint_detection.evaluation_report import metrics_report, scores_table

NAN = float("nan")


def test_undefined_numbers_are_null_not_nan() -> None:
    intervals = {"map": (NAN, NAN, NAN), "a/map": (0.5, 0.25, 1.0)}
    report = metrics_report({"map": NAN, "a/map": 0.5}, intervals, ["a"], {"hash": "x"})
    assert report["metrics"]["map"] == {
        "value": None,
        "interval": None,
        "per_channel": {"a": 0.5},
        "per_channel_interval": {"a": [0.25, 1.0]},
    }


def test_text_has_a_row_per_number_and_per_channel() -> None:
    values = {"map": 0.5, "missed": 2.0, "nme": 0.1, "a/map": 0.25, "b=c/map": 0.75, "a/nme": 0.1}
    intervals = {"map": (0.5, 0.25, 0.75)}
    contract = {"hash": "0123456789ab", "oks_ap": "not defined: two categories"}
    report = metrics_report(values, intervals, ["a", "b=c"], contract)
    lines = scores_table(
        report | {"intervals": {"level": 0.9, "unit": "video", "units": 4, "resamples": 9}}
    ).splitlines()
    assert lines[0].split() == ["metric", "value", "90%", "interval", "by", "video"]
    assert lines[1].split() == ["map", "0.5", "0.25", "to", "0.75"]
    assert lines[2].split() == ["missed", "2"]
    assert [line.split() for line in lines[5:8]] == [
        ["channel", "map", "missed"],
        ["a", "0.25", "-"],
        ["b=c", "0.75", "-"],
    ]
    assert lines[8:] == [
        "",
        "oks_ap not defined: two categories",
        "intervals from 4 videos are too narrow; trust them from 20",
        "metric contract 0123456789ab",
    ]


def test_long_names_of_metrics_keep_their_distance_and_what_is_undefined_is_said() -> None:
    values = {"map": 0.5, "missed": 2.0, "visibility_accuracy": NAN, "visibility_auroc": NAN}
    values |= {f"eye/{name}": value for name, value in values.items()}
    report = metrics_report(values, {}, ["eye"], {"hash": "0123456789ab"})
    lines = scores_table(report).splitlines()
    assert lines[3].split() == ["visibility_accuracy", "-"]
    assert lines[6].split() == ["channel", "map", "missed", "visibility_accuracy"]
    assert {line.rindex("-") for line in lines[3:5]} == {lines[1].rindex("5")}
    assert len(lines[6]) == len(lines[7])
    note = "visibility_accuracy not defined: it needs a visible and an occluded label, both with a detection"
    assert lines[9:] == [note, "metric contract 0123456789ab"]
    known = metrics_report(values | {"visibility_accuracy": 0.5}, {}, ["eye"], {"hash": "0123456789ab"})
    assert note not in scores_table(known)
