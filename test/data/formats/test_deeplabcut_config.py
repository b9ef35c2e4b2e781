import pytest

from keypoint_detection.data.formats.deeplabcut_config import read_config, skeleton_pairs, symmetric_pairs

NAMES = {False: ["nose", "left ear", "right ear", "1"], True: ["lamp"]}


def config(folder, text: str):
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_names_stay_as_they_are_written(tmp_path):
    read = config(tmp_path, "Task: 007\nscorer: no\nbodyparts: [1, yes]\nskeleton: [[1, nose]]\n")
    assert (read.task, read.scorer, read.body_parts) == ("007", "no", ("1", "yes"))
    assert skeleton_pairs(read, NAMES) == ({False: [("1", "nose")], True: []}, [])


@pytest.mark.parametrize("text", ["", "[1, 2]", "Task:\nscorer: ~\nskeleton: null\nsymmetries:\n"])
def test_a_config_that_says_nothing(tmp_path, text):
    read = config(tmp_path, text)
    assert (read.task, read.scorer) == (None, None)
    assert skeleton_pairs(read, NAMES) == symmetric_pairs(read, NAMES) == ({False: [], True: []}, [])
    assert read_config(tmp_path / "absent.yaml").task is None


def test_what_is_no_bone_is_named(tmp_path):
    read = config(
        tmp_path,
        "skeleton: [[nose, left ear], [nose, ghost], [nose], [nose, nose], [nose, lamp], 3, [[a], nose]]",
    )
    pairs, notes = skeleton_pairs(read, NAMES)
    assert pairs[False] == [("nose", "left ear")]
    assert [note.split("left out ")[1] for note in notes] == [
        "['nose', 'ghost']: there are no labels of 'ghost'",
        "['nose']: it is no pair of body parts",
        "['nose', 'nose']: it names one body part twice",
        "['nose', 'lamp']: it joins an animal's body part and a unique one",
        "'3': it is no pair of body parts",
        "[['a'], 'nose']: it is no pair of body parts",
    ]
    assert skeleton_pairs(config(tmp_path, "skeleton: true"), NAMES)[1] == [
        f"{tmp_path / 'config.yaml'} skeleton: left out, it is no list of pairs of body parts: 'true'"
    ]


@pytest.mark.parametrize("key", ["symmetries", "symmetry", "symmetric_pairs", "symmetric_keypoints"])
def test_left_and_right_by_name_and_by_position(tmp_path, key):
    by_name = config(tmp_path, f"{key}: [[left ear, right ear]]")
    by_position = config(tmp_path, f"bodyparts: [nose, left ear, right ear]\n{key}: [[1, 2]]")
    assert symmetric_pairs(by_name, NAMES) == ({False: [("left ear", "right ear")], True: []}, [])
    names = {False: ["nose", "left ear", "right ear"], True: []}
    assert symmetric_pairs(by_position, names)[0][False] == [("left ear", "right ear")]
    # here a body part is called `1`: a name goes before a position
    assert symmetric_pairs(by_position, NAMES)[0][False] == [("1", "right ear")]


def test_one_part_belongs_to_one_pair(tmp_path):
    read = config(tmp_path, "symmetries: [[left ear, right ear], [nose, right ear]]")
    pairs, notes = symmetric_pairs(read, NAMES)
    assert pairs[False] == [("left ear", "right ear")]
    assert "left out ['nose', 'right ear']: one of them is in a pair already" in notes[0]


@pytest.mark.parametrize("text", ["a: [b\nc: d", "\x00", "{" * 3000, "[" * 3000, "a: &x [*y]"])
def test_what_is_no_yaml_is_one_line(tmp_path, text):
    with pytest.raises(ValueError, match=r"config\.yaml: expected DeepLabCut's settings as YAML; ") as caught:
        config(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_tags_make_no_objects(tmp_path):
    assert config(tmp_path, "Task: !!python/object/apply:os.getcwd []\nscorer: Ann").scorer == "Ann"
