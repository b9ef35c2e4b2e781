from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.convert import convert_to_coco
from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.formats.deeplabcut import read_deeplabcut

REAL_DATA = Path(__file__).parents[4] / "shared" / "data"
HEADER = "scorer,Ann,Ann,Ann,Ann\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\n"
HEADER_3 = HEADER.replace("scorer", "scorer,,").replace("parts", "parts,,").replace("coords", "coords,,")


def read_coco_of(source) -> CocoKeypoints:
    return read_deeplabcut(source).coco


def write_image(path: Path, hw: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*hw, 3), 90, np.uint8))


@pytest.fixture
def project(tmp_path) -> Path:
    """Make a project of two videos with one and three index columns, one unlabelled folder, and a config."""
    root = tmp_path / "project"
    for name in ("one/a.png", "one/b.png", "two/a.png"):
        write_image(root / "labeled-data" / name, (20, 30) if "one" in name else (40, 50))
    rows = "labeled-data/one/a.png,1.5,2,11,7\nlabeled-data/one/b.png,,,3,4\n"
    (root / "labeled-data/one/CollectedData_Ann.csv").write_text(HEADER + rows)
    (root / "labeled-data/two/CollectedData_Ann.csv").write_text(HEADER_3 + "labeled-data,two,a.png,,,,\n")
    (root / "labeled-data/three").mkdir()
    (root / "config.yaml").write_text("Task: mouse\nskeleton:\n- - tail\n  - nose\n- - nose\n  - ghost\n")
    return root


def file_names(coco) -> list[str]:
    return [image.file_name for image in coco.images]


def test_a_project(project):
    coco = read_coco_of(project)
    assert file_names(coco) == ["images/one/a.png", "images/one/b.png", "images/two/a.png"]
    assert [(image.height, image.width) for image in coco.images] == [(20, 30), (20, 30), (40, 50)]
    (category,) = coco.categories
    assert (category.name, category.keypoints, category.skeleton) == ("mouse", ["nose", "tail"], [[2, 1]])
    first, second = coco.annotations  # the third image has no label at all
    assert (first.image_id, first.keypoints, first.num_keypoints) == (1, [1.5, 2, 2, 11, 7, 2], 2)
    assert (first.bbox, first.area) == ([2, 2.5, 9.5, 5], 47.5)
    assert (second.image_id, second.keypoints, second.num_keypoints) == (2, [0, 0, 0, 3, 4, 2], 1)
    assert (second.bbox, second.area, second.iscrowd) == (None, None, 0)


@pytest.mark.parametrize(
    "part", ["labeled-data", "labeled-data/one", "labeled-data/one/CollectedData_Ann.csv"]
)
def test_parts_of_a_project_have_the_same_names(project, part):
    coco = read_coco_of(str(project / part))
    expected = ["images/one/a.png", "images/one/b.png", "images/two/a.png"]
    assert file_names(coco) == (expected if part == "labeled-data" else expected[:2])
    assert coco.categories[0].name == "mouse"


def test_a_relative_source(project, monkeypatch):
    monkeypatch.chdir(project / "labeled-data" / "one")
    assert file_names(read_coco_of(Path("."))) == ["images/one/a.png", "images/one/b.png"]


def test_a_folder_outside_a_project(project, tmp_path):
    (project / "labeled-data/one").rename(tmp_path / "video")
    coco = read_coco_of(tmp_path / "video")
    assert file_names(coco) == ["images/video/a.png", "images/video/b.png"]
    assert coco.categories[0].name == "animal"


def test_a_folder_of_videos_with_another_name(project):
    (project / "labeled-data").rename(project / "labels")
    assert file_names(read_coco_of(project / "labels")) == [
        "images/one/a.png",
        "images/one/b.png",
        "images/two/a.png",
    ]


def test_one_table_for_all_videos(project):
    for table in project.rglob("*.csv"):
        table.unlink()
    rows = "labeled-data/one/b.png,1,2,3,4\nlabeled-data/two/a.png,1,2,3,4\n"
    (project / "CollectedData.csv").write_text(HEADER + rows)
    assert file_names(read_coco_of(project)) == ["images/one/b.png", "images/two/a.png"]


@pytest.mark.parametrize(
    "spelling",
    [
        "/home/ann/old/labeled-data/one/a.png",
        "C:\\old\\labeled-data\\one\\a.png",
        "elsewhere/a.png",
        "../../x/a.png",
    ],
)
def test_paths_of_another_machine(project, spelling):
    (project / "labeled-data/one/CollectedData_Ann.csv").write_text(HEADER + f"{spelling},1,2,3,4\n")
    assert file_names(read_coco_of(project / "labeled-data/one")) == ["images/one/a.png"]


def test_videos_with_different_body_parts(project):
    header = HEADER.replace("nose,nose", "ear,ear")
    (project / "labeled-data/two/CollectedData_Ann.csv").write_text(
        header + "labeled-data/two/a.png,1,2,3,5\n"
    )
    coco = read_coco_of(project)
    assert coco.keypoint_names() == ["nose", "tail", "ear"]
    assert coco.annotations[-1].keypoints == [0, 0, 0, 3, 5, 2, 1, 2, 2]


def test_several_animals_and_unique_points(project):
    (project / "labeled-data/two/CollectedData_Ann.csv").unlink()
    (project / "labeled-data/one/CollectedData_Ann.csv").write_text(
        "scorer,,,A,A,A,A,A,A,A,A,A,A\n"
        "individuals,,,m1,m1,m1,m1,m2,m2,m2,m2,single,single\n"
        "bodyparts,,,nose,nose,tail,tail,nose,nose,tail,tail,lamp,lamp\n"
        "coords,,,x,y,x,y,x,y,x,y,x,y\n"
        "labeled-data,one,a.png,1,2,3,4,5,6,,,9,8\n"
        "labeled-data,one,b.png,,,,,7,8,9,10,,\n"
    )
    coco = read_coco_of(project)
    names = [(category.id, category.name, category.keypoints) for category in coco.categories]
    assert names == [(1, "mouse", ["nose", "tail"]), (2, "single", ["lamp"])]
    found = [(entry.id, entry.image_id, entry.category_id, entry.keypoints) for entry in coco.annotations]
    assert found == [
        (1, 1, 1, [1, 2, 2, 3, 4, 2]),
        (2, 1, 1, [5, 6, 2, 0, 0, 0]),
        (3, 1, 2, [9, 8, 2]),
        (4, 2, 1, [7, 8, 2, 9, 10, 2]),
    ]


def test_size_of_other_image_formats(project):
    (project / "labeled-data/one/CollectedData_Ann.csv").write_text(HEADER + "c.jpg,1,2,3,4\n")
    write_image(project / "labeled-data/one/c.jpg", (24, 16))
    image = read_coco_of(project / "labeled-data/one").images[0]
    assert (image.height, image.width) == (24, 16)


@pytest.mark.parametrize(
    "config", ["", "just text", "Task:\nskeleton: true", "skeleton: [[nose], 3, [a, b, c]]"]
)
def test_a_config_without_task_and_skeleton(project, config):
    (project / "config.yaml").write_text(config)
    category = read_coco_of(project).categories[0]
    assert (category.name, category.skeleton) == ("animal", [])


def snapshot(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_convert_copies_images_beside_the_file(project, tmp_path):
    path = convert_to_coco("deeplabcut", project, tmp_path / "new" / "coco").path
    copied = ["images/one/a.png", "images/one/b.png", "images/two/a.png"]
    assert snapshot(path.parent) == ["annotations.json", *copied]
    coco = read_coco(path)
    assert file_names(coco) == copied
    original = read_deeplabcut(project)
    assert [entry.keypoints for entry in coco.annotations] == [
        entry.keypoints for entry in original.coco.annotations
    ]
    for copy, image in zip(copied, original.coco.images, strict=True):
        assert (path.parent / copy).read_bytes() == original.image_paths[image.id].read_bytes()


def test_convert_a_folder_outside_a_project_keeps_its_name(project, tmp_path):
    (project / "labeled-data/one").rename(tmp_path / "video")
    coco = read_coco(convert_to_coco("deeplabcut", tmp_path / "video", tmp_path / "coco").path)
    assert file_names(coco) == ["images/video/a.png", "images/video/b.png"]


@pytest.mark.parametrize("output", ["coco", "project/coco/deep"])
def test_convert_with_links_points_to_the_originals(project, tmp_path, output):
    path = convert_to_coco("deeplabcut", project, tmp_path / output, link=True).path
    assert snapshot(path.parent) == ["annotations.json"]
    for name in file_names(read_coco(path)):
        assert not Path(name).is_absolute()
        assert (path.parent / name).is_file()


def test_an_error_writes_nothing(project, tmp_path):
    (project / "labeled-data/two/a.png").unlink()
    with pytest.raises(FileNotFoundError):
        convert_to_coco("deeplabcut", project, tmp_path / "coco")
    assert not (tmp_path / "coco").exists()


def test_output_that_is_a_file(project, tmp_path):
    (tmp_path / "coco").write_text("x")
    with pytest.raises(ValueError, match="expected a folder for the output, got the file"):
        convert_to_coco("deeplabcut", project, tmp_path / "coco")


def break_missing_source(project: Path) -> Path:
    return project / "absent"


def break_no_labels(project: Path) -> Path:
    return project / "labeled-data" / "three"


def break_two_tables(project: Path) -> Path:
    (project / "labeled-data/one/CollectedData_Bob.csv").write_text(HEADER)
    return project


def break_hdf5(project: Path) -> Path:
    (project / "labels.h5").write_bytes(b"\x89HDF")
    return project / "labels.h5"


def break_missing_image(project: Path) -> Path:
    (project / "labeled-data/one/b.png").unlink()
    return project


def break_corrupt_image(project: Path) -> Path:
    (project / "labeled-data/one/b.png").write_bytes(b"no image")
    return project


def break_empty_image(project: Path) -> Path:
    (project / "labeled-data/one/b.png").write_bytes(b"")
    return project


def break_repeated_row(project: Path) -> Path:
    table = project / "labeled-data/one/CollectedData_Ann.csv"
    table.write_text(HEADER + "labeled-data/one/a.png,1,2,3,4\nlabeled-data/one/a.png,1,2,3,4\n")
    return project


def break_config(project: Path) -> Path:
    (project / "config.yaml").write_text("Task: [mouse\nscorer: Ann\n")
    return project


@pytest.mark.parametrize(
    ("damage", "kind", "expected"),
    [
        (break_missing_source, FileNotFoundError, "expected DeepLabCut labels at"),
        (break_no_labels, FileNotFoundError, "no CollectedData_*.csv or .h5 in"),
        (
            break_two_tables,
            ValueError,
            "one: expected labels of one scorer, got 'Ann', 'Bob'; name one as `scorer` in config.yaml",
        ),
        (break_hdf5, ValueError, "labels.h5: expected DeepLabCut labels in HDF5; "),
        (
            break_missing_image,
            FileNotFoundError,
            "CollectedData_Ann.csv line 5: expected the image labeled-data/one/b",
        ),
        (
            break_corrupt_image,
            ValueError,
            "CollectedData_Ann.csv line 5: expected an image, got a file that cannot",
        ),
        (break_empty_image, ValueError, "line 5: expected an image"),
        (break_repeated_row, ValueError, "line 5: expected one row per image, got"),
        (break_config, ValueError, "config.yaml: expected DeepLabCut's settings as YAML"),
    ],
)
def test_bad_input_is_one_line(project, damage, kind, expected):
    source = damage(project)
    with pytest.raises(kind) as caught:
        read_coco_of(source)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_named_table_is_read_where_there_are_two(project):
    other = project / "labeled-data/one/CollectedData_Bob.csv"
    other.write_text(HEADER + "labeled-data/one/a.png,5,6,7,8\n")
    assert read_coco_of(other).annotations[0].keypoints == [5, 6, 2, 7, 8, 2]


@pytest.mark.parametrize(
    ("name", "counts", "hw"),
    [("openfield", (116, 4, 464), (480, 640)), ("facemap", (118, 12, 1408), (646, 864))],
)
def test_real_projects(tmp_path, name, counts, hw):
    n_frames, n_points, n_labels = counts
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"the real data set {name} is not here")
    coco = read_coco(convert_to_coco("deeplabcut", REAL_DATA / name, tmp_path / "coco", link=True).path)
    assert len(coco.images) == len(coco.annotations) == n_frames
    assert {(image.height, image.width) for image in coco.images} == {hw}
    assert len(coco.keypoint_names()) == n_points
    assert sum(annotation.num_keypoints or 0 for annotation in coco.annotations) == n_labels
    assert all((tmp_path / "coco" / image.file_name).is_file() for image in coco.images)
