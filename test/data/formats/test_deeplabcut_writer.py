import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoKeypoints
from keypoint_detection.data.formats import deeplabcut_writer
from keypoint_detection.data.formats.deeplabcut import read_deeplabcut
from keypoint_detection.data.formats.deeplabcut_writer import write_deeplabcut

TABLE = "CollectedData_keypoint_detection"


def image(identity: int, name: str) -> dict:
    return {"id": identity, "file_name": name, "width": 9, "height": 8}


def annotation(identity: int, image_id: int, points: list[float], category: int = 1, **fields) -> dict:
    return {"id": identity, "image_id": image_id, "category_id": category, "keypoints": points, **fields}


def coco_of(images: list, annotations: list, categories: list | None = None, **fields) -> CocoKeypoints:
    one = {"id": 1, "name": "mouse", "supercategory": "", "keypoints": ["nose", "tail"], "skeleton": [[2, 1]]}
    return CocoKeypoints.model_validate(
        {"images": images, "categories": categories or [one], "annotations": annotations, **fields}
    )


def draw(folder: Path, coco: CocoKeypoints) -> None:
    for number, entry in enumerate(coco.images):
        path = folder / entry.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((entry.height, entry.width, 3), number, np.uint8))


def write(tmp_path: Path, coco: CocoKeypoints) -> tuple[Path, tuple[str, ...]]:
    draw(tmp_path / "coco", coco)
    return tmp_path / "project", write_deeplabcut(coco, tmp_path / "coco", tmp_path / "project")


IMAGES = [image(1, "images/one/a.png"), image(2, "images/one/b.png"), image(3, "images/two/a.png")]


def test_a_single_animal_as_deeplabcut_opens_it(tmp_path):
    coco = coco_of(
        IMAGES, [annotation(1, 1, [1.1, 2, 2, 0.1 + 0.2, 4, 2]), annotation(2, 3, [0, 0, 0, 5, 6, 2])]
    )
    project, notes = write(tmp_path, coco)
    assert notes == ()
    folder = project / "labeled-data" / "one"
    from_csv = pd.read_csv(folder / f"{TABLE}.csv", header=[0, 1, 2], index_col=[0, 1, 2])
    for table in (
        from_csv,
        pd.read_hdf(folder / f"{TABLE}.h5"),
        pd.read_hdf(folder / f"{TABLE}.h5", "df_with_missing"),
    ):
        assert list(table.index) == [("labeled-data", "one", "a.png"), ("labeled-data", "one", "b.png")]
        assert list(table.columns.names) == ["scorer", "bodyparts", "coords"]
        scorer = "keypoint_detection"
        assert list(table.columns) == [(scorer, part, axis) for part in ("nose", "tail") for axis in "xy"]
        expected = [[1.1, 2, 0.1 + 0.2, 4], [np.nan] * 4]
        assert np.allclose(table.to_numpy(), expected, rtol=1e-15, atol=0, equal_nan=True)
    assert (folder / "b.png").read_bytes() == (tmp_path / "coco/images/one/b.png").read_bytes()
    config = yaml.safe_load((project / "config.yaml").read_text())
    assert (config["Task"], config["scorer"], config["multianimalproject"]) == (
        "mouse",
        "keypoint_detection",
        False,
    )
    assert (config["bodyparts"], config["skeleton"]) == (["nose", "tail"], [["tail", "nose"]])
    assert [Path(video).stem for video in config["video_sets"]] == ["one", "two"]
    assert config["video_sets"]["videos/one.mp4"] == {"crop": "0, 9, 0, 8"}


def test_several_animals_and_unique_points(tmp_path):
    categories = [
        {"id": 5, "name": "mouse", "supercategory": "", "keypoints": ["nose", "tail"], "skeleton": []},
        {"id": 7, "name": "single", "supercategory": "", "keypoints": ["lamp"], "skeleton": []},
    ]
    entries = [
        annotation(1, 1, [1, 2, 2, 3, 4, 2], 5),
        annotation(2, 1, [9, 9, 2], 7),
        annotation(3, 1, [5, 6, 2, 0, 0, 0], 5),
        annotation(4, 2, [7, 8, 2, 1, 1, 2], 5),
    ]
    project, notes = write(tmp_path, coco_of(IMAGES, entries, categories))
    assert notes == ()
    stem = project / "labeled-data/one" / TABLE
    from_csv = pd.read_csv(stem.with_suffix(".csv"), header=[0, 1, 2, 3], index_col=[0, 1, 2])
    for table in (from_csv, pd.read_hdf(stem.with_suffix(".h5"))):
        assert list(table.columns.names) == ["scorer", "individuals", "bodyparts", "coords"]
        points = [
            ("individual1", "nose"),
            ("individual1", "tail"),
            ("individual2", "nose"),
            ("individual2", "tail"),
        ]
        expected = [(who, part, axis) for who, part in [*points, ("single", "lamp")] for axis in "xy"]
        assert list(table.droplevel("scorer", axis=1).columns) == expected
        nan = np.nan
        values = [[1, 2, 3, 4, 5, 6, nan, nan, 9, 9], [7, 8, 1, 1, *[nan] * 6]]
        assert np.array_equal(table.to_numpy(), values, equal_nan=True)
    config = yaml.safe_load((project / "config.yaml").read_text())
    assert (config["multianimalproject"], config["bodyparts"]) == (True, "MULTI!")
    assert config["individuals"] == ["individual1", "individual2"]
    assert (config["multianimalbodyparts"], config["uniquebodyparts"]) == (["nose", "tail"], ["lamp"])
    back = read_deeplabcut(project).coco
    assert [(category.name, category.keypoints) for category in back.categories] == [
        ("mouse", ["nose", "tail"]),
        ("single", ["lamp"]),
    ]
    assert [(entry.image_id, entry.category_id, entry.keypoints) for entry in back.annotations] == [
        (1, 1, [1, 2, 2, 3, 4, 2]),
        (1, 1, [5, 6, 2, 0, 0, 0]),
        (1, 2, [9, 9, 2]),
        (2, 1, [7, 8, 2, 1, 1, 2]),
    ]


def test_what_does_not_fit_is_named(tmp_path):
    categories = [
        {
            "id": 1,
            "name": "mouse",
            "supercategory": "animal",
            "keypoints": ["nose", "tail"],
            "skeleton": [[1, 3], [1, 2]],
        },
        {"id": 2, "name": "parent", "keypoints": []},
    ]
    entries = [
        annotation(1, 1, [1, 2, 1, 3, 5, 1], bbox=[0, 0, 9, 8], area=5, iscrowd=1, track=4),
        annotation(2, 2, [1, 2, 0, 3, 5, 2], bbox=[1.5, 2.5, 2, 3]),
        annotation(3, 3, [0, 0, 0, 0, 0, 0]),
        annotation(4, 3, [1, 2, 2, 3, 5, 2], bbox=[1.5, 2.5, 2, 3], area=6),
    ]
    images = [*IMAGES[:2], image(3, "deep/two/a.png")]
    _, notes = write(tmp_path, coco_of(images, entries, categories, info={"year": 1}))
    assert sorted(notes) == sorted(
        [
            "categories without keypoints are left out (1)",
            "annotations without a labelled point are left out (1)",
            "supercategories are left out (1)",
            "occluded points (visibility 1) become plain labels (2)",
            "points of visibility 0 lose their coordinates (1)",
            "crowd annotations become plain ones (1)",
            "boxes that are not the tight box of their points are left out (2)",
            "areas that are not the area of that box are left out (1)",
            "the field 'track' of annotations is left out (1)",
            "the field 'info' of the file is left out (1)",
            "bones that are no pair of keypoint numbers are left out (1)",
            "images change their place, every folder is a video (1): "
            "'deep/two/a.png' is labeled-data/deep_two/a.png",
        ]
    )


def test_categories_that_become_one_are_named(tmp_path):
    categories = [
        {"id": 1, "name": "cat", "supercategory": "", "keypoints": ["nose", "paw"]},
        {"id": 2, "name": "dog", "supercategory": "", "keypoints": ["tail", "nose"]},
    ]
    entries = [annotation(1, 1, [1, 2, 2, 0, 0, 0]), annotation(2, 1, [3, 4, 2, 5, 6, 2], 2)]
    project, notes = write(tmp_path, coco_of(IMAGES[:1], entries, categories))
    assert notes == ("categories become one: DeepLabCut's animals are all of one kind (2)",)
    back = read_deeplabcut(project).coco
    assert [entry.keypoints for entry in back.annotations] == [
        [1, 2, 2, 0, 0, 0, 0, 0, 0],
        [5, 6, 2, 0, 0, 0, 3, 4, 2],
    ]


def test_folders_that_look_alike_and_links_stay_apart(tmp_path):
    images = [image(1, "a/b/x.png"), image(2, "a_b/x.png"), image(3, "x.png"), image(4, "../elsewhere/x.png")]
    coco = coco_of(images, [annotation(1, 4, [1, 2, 2, 3, 5, 2])])
    project, notes = write(tmp_path, coco)
    names = sorted(path.relative_to(project).as_posix() for path in project.rglob("*.png"))
    assert names == [f"labeled-data/{folder}/x.png" for folder in ("a_b", "a_b_2", "elsewhere", "images")]
    assert notes[0].startswith("images change their place, every folder is a video (4): ")
    assert len(read_deeplabcut(project).coco.images) == 4


def test_symmetric_keypoints_go_both_ways(tmp_path):
    category = {"id": 1, "name": "m", "supercategory": "", "keypoints": ["l", "r", "t"], "skeleton": []}
    category["symmetric_keypoints"] = [["l", "r"]]
    project, notes = write(tmp_path, coco_of(IMAGES[:1], [annotation(1, 1, [1, 2, 2] * 3)], [category]))
    assert notes == ()
    assert yaml.safe_load((project / "config.yaml").read_text())["symmetries"] == [["l", "r"]]
    assert read_deeplabcut(project).coco.categories[0].model_extra == {"symmetric_keypoints": [["l", "r"]]}


@pytest.mark.parametrize("missing", ["pandas", "tables"])
def test_without_the_extra_only_csv_is_written_and_said(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(deeplabcut_writer, "find_spec", lambda name: None if name == missing else sys)
    project, notes = write(tmp_path, coco_of(IMAGES, [annotation(1, 1, [1, 2, 2, 3, 5, 2])]))
    assert notes == (
        "the tables are written as CSV only, for HDF5 too: pip install 'keypoint-detection[dlc]'",
    )
    assert not list(project.rglob("*.h5"))
    assert len(read_deeplabcut(project).coco.annotations) == 1


@pytest.mark.parametrize("name", ["", " nose", "two\nlines"])
def test_names_that_a_table_cannot_hold(tmp_path, name):
    category = {"id": 1, "name": "m", "keypoints": ["tail", name]}
    with pytest.raises(
        ValueError, match="expected names of keypoints that occur once, on one line"
    ) as caught:
        write(tmp_path, coco_of(IMAGES, [], [category]))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "project").exists()


def test_errors_write_nothing(tmp_path):
    coco = coco_of(IMAGES, [])
    with pytest.raises(FileNotFoundError, match="image 1: expected a file at"):
        write_deeplabcut(coco, tmp_path / "coco", tmp_path / "project")
    with pytest.raises(ValueError, match="image 2: expected names that occur once"):
        write(tmp_path, coco_of([image(1, "v/a.png"), image(2, "v/a.png")], []))
    assert not (tmp_path / "project").exists()


def test_an_existing_project_is_never_overwritten(tmp_path):
    coco = coco_of(IMAGES, [annotation(1, 1, [1, 2, 2, 3, 5, 2])])
    project, _ = write(tmp_path, coco)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="expected a folder without a DeepLabCut project, got"):
        write(tmp_path, coco)
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


NAME = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), min_size=1, max_size=6).filter(
    lambda text: text == text.strip() and text.isprintable()
)
PIXEL = st.floats(-50, 50, allow_nan=False) | st.integers(0, 20).map(float)


@st.composite
def small_sets(draw) -> CocoKeypoints:
    """Draw a data set that DeepLabCut can hold: one category, tight boxes, every instance with a label."""
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    places = draw(st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), min_size=1))
    images = [image(i, f"images/{video}/{n}.png") for i, (video, n) in enumerate(sorted(places), start=1)]
    numbers = st.integers(1, len(names))
    bones = draw(st.lists(st.tuples(numbers, numbers).filter(lambda bone: bone[0] != bone[1]), max_size=3))
    category = {"id": 1, "name": draw(NAME.filter(lambda name: name not in ("~", "null", "Null", "NULL")))}
    category |= {"supercategory": "", "keypoints": names, "skeleton": [list(bone) for bone in bones]}
    entries = []
    for entry in images:
        for _ in range(draw(st.integers(0, 2))):
            points = draw(
                st.lists(st.none() | st.tuples(PIXEL, PIXEL), min_size=len(names), max_size=len(names))
            )
            labelled = [point for point in points if point is not None]
            if not labelled:
                continue
            triples = [(0.0, 0.0, 0) if point is None else (*point, 2) for point in points]
            fields: dict = {"num_keypoints": len(labelled), "iscrowd": 0}
            low, high = np.min(labelled, axis=0), np.max(labelled, axis=0)
            width, height = (high - low).tolist()
            if width * height > 0:
                fields |= {"bbox": [*(low + 0.5).tolist(), width, height], "area": width * height}
            flat = [number for triple in triples for number in triple]
            entries.append(annotation(len(entries) + 1, entry["id"], flat, **fields))
    return coco_of(images, entries, [category])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(coco=small_sets())
def test_there_and_back_is_the_identity(tmp_path_factory, coco):
    project, notes = write(tmp_path_factory.mktemp("round"), coco)
    assert notes == ()
    back = read_deeplabcut(project)
    assert back.notes == ()  # so CSV and HDF5 agree as well
    assert back.coco.model_dump(exclude_unset=True) == coco.model_dump(exclude_unset=True)
    for table in project.rglob("*.csv"):
        table.unlink()
    assert read_deeplabcut(project).coco == back.coco
