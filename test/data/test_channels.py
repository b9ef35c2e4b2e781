import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.channels import (
    channel_name,
    channel_skeleton,
    format_channels,
    mirror_names,
    parse_channels,
)

NAMES = ["stem", "leaf0", "leaf1", "eye top", "eye:front"]


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("stem", [["stem"]]),
        ("stem; leaf0 = leaf1", [["stem"], ["leaf0", "leaf1"]]),
        ("stem:leaf0=leaf1", [["stem"], ["leaf0", "leaf1"]]),
        (" leaf0=  leaf1 ;eye top:stem ", [["leaf0", "leaf1"], ["eye top"], ["stem"]]),
        ("stem = leaf0; leaf0 = leaf1; leaf0", [["stem", "leaf0"], ["leaf0", "leaf1"], ["leaf0"]]),
        ([["stem"], ["leaf0", " leaf1 "]], [["stem"], ["leaf0", "leaf1"]]),
        (("stem", "leaf0 = leaf1"), [["stem"], ["leaf0", "leaf1"]]),
        ('[["stem", "leaf0"], ["eye:front"]]', [["stem", "leaf0"], ["eye:front"]]),
        (" [[stem, leaf0], [eye top]]", [["stem", "leaf0"], ["eye top"]]),
        ("[stem, leaf0]", [["stem"], ["leaf0"]]),
        (None, [["stem"], ["leaf0"], ["leaf1"], ["eye top"], ["eye:front"]]),
    ],
)
def test_parse_channels(configuration, expected):
    assert parse_channels(configuration, NAMES) == expected


def test_names_that_yaml_reads_as_other_types():
    assert parse_channels([[1, 2]], ["1", "2", "on"]) == [["1", "2"]]
    assert parse_channels("[[1], [on]]", ["1", "2", "on"]) == [["1"], ["on"]]


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("", "got an empty one"),
        ("   ", "got an empty one"),
        ([], "got an empty one"),
        ("[]", "got an empty one"),
        ("stem;", "got nothing for channel 2"),
        (";stem", "got nothing for channel 1"),
        ("stem; ; leaf0", "got nothing for channel 2"),
        ([["stem"], []], "got nothing for channel 2"),
        ("stem; leaf0 =", "an empty name in channel 2"),
        ("stem; leaf0 = leaf0", "a name once in channel 2, got 'leaf0' twice"),
        ("stem; stem", "channels that differ, got 'stem' twice"),
        ([["stem", None]], "keypoint names, got None"),
        ([["stem", True]], "keypoint names, got True"),
        ([["stem"], 4], "a channel as a list of names, got 4"),
        ({"a": 1}, "or a list of lists of names, got {'a': 1}"),
        ("[[stem", "expected a list of lists of names, got '[[stem'"),
    ],
)
def test_a_wrong_configuration_is_one_line(configuration, expected):
    with pytest.raises(ValueError) as caught:
        parse_channels(configuration, NAMES)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("keypoint_channel_configuration: ")


def test_an_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(ValueError) as caught:
        parse_channels("stem; leav0", NAMES)
    assert ", ".join(NAMES) in str(caught.value)
    assert "got 'leav0'. Did you mean 'leaf0'?" in str(caught.value)


def test_a_file_without_names():
    with pytest.raises(ValueError, match="got one without any"):
        parse_channels(None, [])


def test_format_channels():
    assert format_channels([["stem"], ["leaf0", "leaf1"]]) == "stem; leaf0 = leaf1"
    assert format_channels([["a;b"]]) == '[["a;b"]]'
    assert channel_name(["leaf0", "leaf1"]) == "leaf0=leaf1"


names = st.text(min_size=1, max_size=6).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(names, min_size=1, max_size=3, unique=True), min_size=1, max_size=4, unique_by=channel_name
    )
)
def test_parsing_undoes_formatting(channels):
    available = [name for channel in channels for name in channel]
    assert parse_channels(format_channels(channels), available) == channels
    assert parse_channels(channels, available) == channels


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("leftear", "rightear"),
        ("left_ear", "right_ear"),
        ("ear-left", "ear-right"),
        ("Left Ear", "Right Ear"),
        ("earLeft", "earRight"),
        ("LEFT_EAR", "RIGHT_EAR"),
        ("earleft", "earright"),
        ("topleftcorner", "toprightcorner"),
        ("left", "right"),
        ("l_eye", "r_eye"),
        ("eye_l", "eye_r"),
        ("eye.L", "eye.R"),
        ("LEye", "REye"),
        ("eyeL", "eyeR"),
        ("L1", "R1"),
        ("Hand L", "Hand R"),
        ("l", "r"),
        ("FL_paw", "FR_paw"),
        ("paw_lh", "paw_rh"),
        ("corner TL", "corner TR"),
        ("left_eye_left", "right_eye_right"),
        ("left_wing_l2", "right_wing_r2"),
        ("L_left", "L_right"),
        ("brightleft", "brightright"),
    ],
)
def test_pairs_are_found_in_the_names(left, right):
    mirror = mirror_names(["nose", left, right], None)
    assert mirror.swap == {"nose": "nose", left: right, right: left}
    assert mirror.unpaired == []


@pytest.mark.parametrize(
    "pair",
    [
        ("lip", "rip"),
        ("Lip", "Rip"),
        ("LIP", "RIP"),
        ("leaf0", "reaf0"),
        ("lead", "read"),
        ("lobe", "robe"),
        ("eyel", "eyer"),
        ("root", "loot"),
        ("bright", "cleft"),
        ("bright spot", "upright spot"),
        ("l_eye", "r_ear"),
    ],
)
def test_no_false_pairs(pair):
    mirror = mirror_names(list(pair), None)
    assert mirror.swap == {name: name for name in pair}
    assert mirror.unpaired == []


def test_a_word_without_its_partner_is_unpaired_but_a_letter_is_not():
    mirror = mirror_names(["left_ear", "nose", "rightEye", "l_paw"], None)
    assert mirror.unpaired == ["left_ear", "rightEye"]
    assert mirror.swap == {name: name for name in ("left_ear", "nose", "rightEye", "l_paw")}


def test_all_sides_turn_before_single_ones():
    corners = ["left_eye_left", "left_eye_right", "right_eye_left", "right_eye_right"]
    swap = mirror_names(corners, None).swap
    assert swap["left_eye_left"] == "right_eye_right"
    assert swap["left_eye_right"] == "right_eye_left"


def test_declared_pairs_replace_the_found_ones():
    mirror = mirror_names(["left_ear", "right_ear", "bow", "stern"], [("bow", "stern")])
    assert mirror.swap == {"left_ear": "left_ear", "right_ear": "right_ear", "bow": "stern", "stern": "bow"}
    assert mirror.unpaired == []
    assert mirror_names(["left_ear", "right_ear"], []).swap == {
        "left_ear": "left_ear",
        "right_ear": "right_ear",
    }


def test_a_declared_name_that_is_missing_is_unpaired():
    mirror = mirror_names(["bow", "mast"], [("bow", "stern")])
    assert mirror.unpaired == ["stern"]
    assert mirror.swap == {"bow": "bow", "mast": "mast"}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("a", "b"), ("a", "c")], "one mirror pair at most, got 'a' with 'b' and with 'c'"),
        ([("a", "b"), ("c", "b")], "one mirror pair at most, got 'b'"),
        ([("a", "b", "c")], "mirror pairs of two keypoint names"),
        (["ab"], "mirror pairs of two keypoint names"),
    ],
)
def test_wrong_declared_pairs(pairs, expected):
    with pytest.raises(ValueError, match=expected):
        mirror_names(["a", "b", "c"], pairs)


pieces = st.sampled_from(["left", "Right", "l", "R", "eye", "_", " ", "FL", "1", "bright"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(pieces, min_size=1, max_size=4).map("".join), min_size=1, max_size=8, unique=True))
def test_the_mirror_of_the_mirror_is_the_identity(names):
    mirror = mirror_names(names, None)
    assert set(mirror.swap) == set(names)
    assert all(mirror.swap[mirror.swap[name]] == name for name in names)
    assert all(mirror.swap[name] == name for name in mirror.unpaired)


def test_a_skeleton_joins_channels_that_hold_one_name() -> None:
    channels = [["tail"], ["nose"], ["ear0", "ear1"]]
    assert channel_skeleton(channels, [("nose", "tail"), ["nose", "ear0"], ["nose", "paw"]]) == [(1, 0)]
    assert channel_skeleton(channels, []) == []
