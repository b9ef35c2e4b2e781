import dataclasses
import json

import pytest

from keypoint_detection.records import Instance, Keypoint, Prediction


@pytest.fixture
def prediction():
    return Prediction(
        keypoints=((Keypoint(1.5, 2.0, 0.9), Keypoint(4.0, 5.0, 0.4)), ()),
        channel_names=("stem", "leaf0=leaf1"),
        image_hw=(48, 64),
        source="a.png",
    )


def test_a_labelled_keypoint_is_certain_and_visible():
    assert (Keypoint(1.0, 2.0).score, Keypoint(1.0, 2.0).visibility) == (1.0, 2)


@pytest.mark.parametrize("record", [Keypoint(1, 2), Instance({}, "flower"), Prediction((), (), (4, 4))])
def test_records_are_frozen(record):
    field = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, None)


def test_an_instance_without_box_and_area():
    instance = Instance({"stem": Keypoint(1, 2)}, "flower")
    assert (instance.box, instance.area, instance.is_crowd) == (None, None, False)


def test_prediction_by_channel_name(prediction):
    assert [point.score for point in prediction["stem"]] == [0.9, 0.4]
    assert prediction["leaf0=leaf1"] == ()


def test_an_unknown_channel_lists_the_channels(prediction):
    with pytest.raises(KeyError, match="no channel 'leaf0'; this prediction has stem, leaf0=leaf1"):
        prediction["leaf0"]


def test_to_dict_is_json(prediction):
    expected = {
        "source": "a.png",
        "height": 48,
        "width": 64,
        "keypoints": {
            "stem": [{"x": 1.5, "y": 2.0, "score": 0.9}, {"x": 4.0, "y": 5.0, "score": 0.4}],
            "leaf0=leaf1": [],
        },
    }
    assert json.loads(json.dumps(prediction.to_dict())) == expected


def test_a_point_that_is_hardly_visible_is_occluded():
    point = Keypoint(1.5, 2.0, 0.9)
    assert [point.seen_with(p).visibility for p in (0.0, 0.499, 0.5, 1.0)] == [1, 1, 2, 2]
    assert point.seen_with(0.25) == Keypoint(1.5, 2.0, 0.9, 1, 0.25)
    assert point.p_visible is None


def test_to_dict_says_what_is_known_about_visibility():
    place = {"x": 1.0, "y": 2.0, "score": 0.5}
    assert Keypoint(1.0, 2.0, 0.5).to_dict() == place
    assert Keypoint(1.0, 2.0, 0.5, visibility=1).to_dict() == {**place, "visibility": 1}
    assert Keypoint(1.0, 2.0, 0.5).seen_with(0.75).to_dict() == {**place, "p_visible": 0.75}
    assert Keypoint(1.0, 2.0, 0.5).seen_with(0.25).to_dict() == {**place, "visibility": 1, "p_visible": 0.25}
