from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoKeypoints
from keypoint_detection.data.keypoint_choice import choose_keypoints, choose_labels
from keypoint_detection.data.symmetry import read_symmetry

NAMES = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]


def face(**fields) -> CocoCategory:
    return CocoCategory(id=1, name="face", keypoints=NAMES, **fields)


def test_fewer_by_hand():
    category = face(
        skeleton=[[1, 2], [1, 3], [3, 5]],
        symmetric_keypoints=[["left_eye", "right_eye"], ["left_ear", "right_ear"]],
        sigmas=[1, 2, 3, 4, 5],
        colour=[9, 9],
    )
    chosen, notes = choose_keypoints(category, ["right_ear", "nose", "right_eye", "left_ear"])
    assert chosen.keypoints == ["right_ear", "nose", "right_eye", "left_ear"]
    assert chosen.skeleton == [[2, 3], [3, 1]]
    assert chosen.model_extra == {
        "symmetric_keypoints": [["left_ear", "right_ear"]],
        "sigmas": [5, 1, 3, 4],
        "colour": [9, 9],
    }
    assert notes == [
        "category 'face': 1 bones ended at a keypoint left out",
        "category 'face': 1 sets of symmetric_keypoints lost a name and are left out",
    ]
    assert category.keypoints == NAMES
    assert category.model_extra["symmetric_keypoints"][0] == ["left_eye", "right_eye"]
    read_symmetry(CocoKeypoints(images=[], categories=[chosen], annotations=[]))


def test_pairs_that_all_end_do_not_say_that_nothing_has_a_side():
    chosen, _ = choose_keypoints(face(symmetric_keypoints=[["left_eye", "right_eye"]]), ["nose", "left_eye"])
    assert chosen.model_extra == {}
    chosen, notes = choose_keypoints(face(symmetric_keypoints=[]), ["nose", "left_eye"])
    assert chosen.model_extra == {"symmetric_keypoints": []}
    assert notes == []


def test_sets_shrink_in_their_order():
    names = ["a", "b", "c", "d"]
    category = CocoCategory(id=1, name="sheet", keypoints=names, cyclic_keypoints=[["d", "c", "b", "a"]])
    assert choose_keypoints(category, ["a", "b", "d"])[0].model_extra == {
        "cyclic_keypoints": [["d", "b", "a"]]
    }
    assert choose_keypoints(category, ["a", "b"])[0].model_extra == {}


def test_fields_that_are_not_understood_stay():
    fields = {"symmetric_keypoints": "left=right", "cyclic_keypoints": [[{"a": 1}]], "note": None}
    assert choose_keypoints(face(**fields), ["nose"])[0].model_extra["symmetric_keypoints"] == "left=right"


def test_labels_by_hand():
    entry = CocoAnnotation(
        id=1, image_id=1, category_id=1, keypoints=[1, 2, 2, 3, 4, 1, 0, 0, 0], num_keypoints=2
    )
    chosen = choose_labels(entry, ["a", "b", "c"], ["c", "x", "b"])
    assert chosen.keypoints == [0, 0, 0, 0, 0, 0, 3, 4, 1]
    assert chosen.num_keypoints == 1
    assert entry.num_keypoints == 2


@given(st.permutations(NAMES))
def test_another_order_and_back_is_the_same(order):
    category = face(skeleton=[[1, 2], [4, 5], [3, 1]], sigmas=[1, 2, 3, 4, 5])
    there, notes = choose_keypoints(category, order)
    assert notes == []
    assert choose_keypoints(there, NAMES)[0].model_dump() == category.model_dump()
    values = [float(value) for value in range(15)]
    values[2::3] = [0, 1, 2, 0, 2]
    entry = CocoAnnotation(id=1, image_id=1, category_id=1, keypoints=values)
    assert choose_labels(choose_labels(entry, NAMES, order), order, NAMES) == entry
