"""Instances end to end: train on crops, score, and let pycocotools read what was written."""

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train

NAMES = ["nose", "left_ear", "right_ear"]


@pytest.fixture(scope="module")
def faces_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a COCO file of four images with two drawn faces each, one crowd, and one without labels."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(3)
    images, annotations = [], []
    for image_id in (7, 3, 9, 4):
        picture = np.full((64, 96, 3), 90, np.uint8)
        for column in range(2):
            centre = np.array([24 + 48 * column, 32]) + rng.uniform(-4, 4, 2)
            points = centre + np.array([[0, 0], [-10, -8], [10, -8]])
            for (x, y), color in zip(points, ([255, 0, 0], [0, 255, 0], [0, 0, 255]), strict=True):
                cv2.circle(picture, (round(x), round(y)), 3, color, -1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": np.column_stack([points, [2, 2, 1]]).ravel().tolist(),
                    "num_keypoints": 3,
                    "bbox": [*(centre - 14).tolist(), 28, 24],
                    "area": 600.0,
                    "iscrowd": 0,
                }
            )
        cv2.imwrite(str(folder / f"{image_id}.png"), picture)
        images.append(
            {
                "id": image_id,
                "file_name": f"{image_id}.png",
                "height": 64,
                "width": 96,
                "video": str(image_id > 5),
            }
        )
    empty = {"keypoints": [0] * 9, "num_keypoints": 0, "category_id": 1, "image_id": 7, "area": 90.0}
    annotations.append({**empty, "id": 90, "bbox": [0, 0, 9, 10], "iscrowd": 1})
    annotations.append({**empty, "id": 91, "bbox": [80, 50, 9, 10], "iscrowd": 0})
    categories = [{"id": 1, "name": "face", "keypoints": NAMES, "skeleton": []}]
    path = folder / "faces.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories, "info": {}})
    )
    return path


@pytest.fixture(scope="module")
def checkpoint(faces_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        json_dataset_path=str(faces_json),
        json_validation_dataset_path=str(faces_json),
        input_mode="instance",
        image_size="32x40",
        maximal_gt_keypoint_pixel_distances=[0.5, 0.9],
        oks_sigmas=[0.05, 0.06, 0.07],
        default_root_dir=str(tmp_path_factory.mktemp("runs")),
        run_name="faces",
        max_epochs=2,
        n_channels=8,
        accelerator="cpu",
        num_workers=0,
        trainer={"enable_progress_bar": False},
    )
    result = train(config)
    assert result.last_checkpoint is not None
    assert "validation/ap@oks0.5" in result.validation
    return result.last_checkpoint


def coco_numbers(faces_json: Path, results: Path) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(faces_json))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([0.05, 0.06, 0.07])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def test_oks_ap_is_what_pycocotools_gives_for_the_written_file(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    values = evaluate(checkpoint, faces_json, tmp_path, EvalOptions(n_resamples=20))
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert len(written) == 8
    assert all(len(entry["keypoints"]) == 9 for entry in written)
    expected = coco_numbers(faces_json, tmp_path / "predictions.json")
    names = ["", "50", "75", "_medium", "_large"]
    found = [values[f"oks_{kind}{name}"] for kind in ("ap", "ar") for name in names]
    assert np.nan_to_num(found, nan=-1).tolist() == pytest.approx(expected, abs=1e-9)
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["inference"]["box_padding"] == 1.25
    assert report["contract"]["box_source"] == "labels"
    assert report["contract"]["oks_ap"]["sigmas"] == {"nose": 0.05, "left_ear": 0.06, "right_ear": 0.07}
    assert report["metrics"]["oks_ap"]["interval"] is not None


def test_detected_boxes_give_instances_and_nothing_per_channel(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    labels = json.loads(faces_json.read_text())["annotations"][:7]
    boxes = [{**{k: one[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5} for one in labels]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = EvalOptions(n_resamples=0, detections=tmp_path / "boxes.json", flip_test=True)
    values = evaluate(checkpoint, faces_json, tmp_path / "out", options)
    assert set(values) == {name for name in values if name.startswith("oks_")}
    assert values["oks_ar"] <= 7 / 8
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert report["contract"]["box_source"].startswith("detections boxes.json (")
    (tmp_path / "boxes.json").write_text("[]")
    assert evaluate(checkpoint, faces_json, tmp_path / "none", options)["oks_ap"] == 0.0


def test_wrong_detections_are_one_line_and_nothing_is_written(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    boxes = tmp_path / "boxes.json"
    right = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}
    for wrong, message in (
        ({"score": float("nan")}, "score"),
        ({"bbox": [500, 500, 3, 3]}, "image"),
        ({"image_id": 1}, "image_id"),
    ):
        boxes.write_text(json.dumps([right, {**right, **wrong}]))
        with pytest.raises(ValueError, match=message) as caught:
            evaluate(checkpoint, faces_json, tmp_path / "out", EvalOptions(detections=boxes))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_area_of_zero_is_an_error(faces_json: Path, checkpoint: Path, tmp_path: Path) -> None:
    content = json.loads(faces_json.read_text())
    content["annotations"][0]["area"] = 0
    broken = faces_json.with_name("zero.json")
    broken.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"zero\.json: annotation 1 .*area"):
        evaluate(checkpoint, broken, tmp_path)


def test_groups_make_other_intervals_of_the_same_numbers(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    by_image = evaluate(checkpoint, faces_json, tmp_path / "a", EvalOptions(n_resamples=50))
    by_video = evaluate(checkpoint, faces_json, tmp_path / "b", EvalOptions(n_resamples=50, group_by="video"))
    assert by_image == pytest.approx(by_video, nan_ok=True)
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert a["contract"] == b["contract"]
    assert a["metrics"]["mean_error_px"]["interval"] != b["metrics"]["mean_error_px"]["interval"]


def test_an_unlabelled_instance_needs_neither_area_nor_box(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    content = json.loads(faces_json.read_text())
    for annotation in content["annotations"][8:]:
        del annotation["area"], annotation["bbox"]
    bare = faces_json.with_name("bare.json")
    bare.write_text(json.dumps(content))
    options = EvalOptions(n_resamples=0)
    assert (
        evaluate(checkpoint, bare, tmp_path / "a", options)["oks_ap"]
        == evaluate(checkpoint, faces_json, tmp_path / "b", options)["oks_ap"]
    )


def test_boxes_of_another_category_are_no_instances(
    faces_json: Path, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads(faces_json.read_text())
    labels = content["annotations"][:8]
    content["categories"].append({"id": 2, "name": "mask", "keypoints": NAMES, "skeleton": []})
    two = faces_json.with_name("two_categories.json")
    two.write_text(json.dumps(content))
    boxes = [{"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.5} for a in labels]
    others = [{**box, "category_id": 2, "score": 0.9} for box in boxes]
    options = EvalOptions(n_resamples=0, detections=tmp_path / "boxes.json")
    found = []
    for name, entries in (("a", boxes), ("b", others + boxes)):
        (tmp_path / "boxes.json").write_text(json.dumps(entries))
        found.append(evaluate(checkpoint, two, tmp_path / name, options))
    assert found[0] == pytest.approx(found[1], nan_ok=True)
    assert "8 of 16 boxes are left out" in caplog.text
    assert len(json.loads((tmp_path / "b" / "predictions.json").read_text())) == 8
    labels[0]["category_id"] = 2
    two.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="scored by OKS-AP alone") as caught:
        evaluate(checkpoint, two, tmp_path / "c", options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("change", ["crowd moved", "crowd keypoint", "instance moved", "size", "outside"])
def test_the_hash_stands_for_all_that_the_numbers_depend_on(
    change: str, faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    content = json.loads(faces_json.read_text())
    annotations = content["annotations"]
    annotations[0]["keypoints"][3:6] = [-9.0, 5.0, 1]  # outside: no channel has it, OKS-AP does
    path, hashes = faces_json.with_name("changed.json"), []
    for _ in range(2):
        path.write_text(json.dumps(content))
        evaluate(checkpoint, path, tmp_path, EvalOptions(n_resamples=0))
        hashes.append(json.loads((tmp_path / "metrics.json").read_text())["contract"]["hash"])
        if change == "crowd moved":
            annotations[8]["image_id"] = 3
        elif change == "crowd keypoint":
            annotations[8] |= {"keypoints": [1, 1, 2, 0, 0, 0, 0, 0, 0], "num_keypoints": 1}
        elif change == "instance moved":
            annotations[1]["image_id"] = content["images"][1]["id"]
        elif change == "size":
            content["images"][0]["height"] = 65
            cv2.imwrite(str(path.with_name("7_65.png")), np.full((65, 96, 3), 90, np.uint8))
            content["images"][0]["file_name"] = "7_65.png"
        else:
            annotations[0]["keypoints"][3] = -20.0
    assert hashes[0] != hashes[1]


def test_the_order_of_the_images_changes_neither_hash_nor_numbers(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    content = json.loads(faces_json.read_text())
    content["images"].reverse()
    turned = faces_json.with_name("turned.json")
    turned.write_text(json.dumps(content))
    options = EvalOptions(n_resamples=0)
    one = evaluate(checkpoint, faces_json, tmp_path / "a", options)
    assert evaluate(checkpoint, turned, tmp_path / "b", options) == pytest.approx(one, nan_ok=True)
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text())["contract"] for name in "ab")
    assert a == b


def test_an_image_of_several_instances_is_one_image(
    faces_json: Path, checkpoint: Path, tmp_path: Path
) -> None:
    values = evaluate(checkpoint, faces_json, tmp_path, EvalOptions(n_resamples=0))
    labels: dict[int, list] = {}
    for annotation in json.loads(faces_json.read_text())["annotations"][:8]:
        labels.setdefault(annotation["image_id"], []).append(annotation["keypoints"])
    squares: dict[int, list[float]] = {image_id: [] for image_id in labels}
    for entry in json.loads((tmp_path / "predictions.json").read_text()):
        points = np.array(labels[entry["image_id"]].pop(0)).reshape(3, 3)
        for (x, y, _), name in zip(points, NAMES, strict=True):
            found = entry["channels"][name][0]
            squares[entry["image_id"]].append((found["x"] - x) ** 2 + (found["y"] - y) ** 2)
    expected = np.mean([np.sqrt(np.mean(of_image)) for of_image in squares.values()])
    assert values["image_rmse_px"] == pytest.approx(expected, abs=1e-5)
