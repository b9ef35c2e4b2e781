import json

import numpy as np
import pytest

from keypoint_detection.data.coco_parser import CocoImage, CocoKeypoints
from keypoint_detection.data.coco_results import write_results
from keypoint_detection.fold_scores_predictions import out_of_fold_predictions

COCO_IMAGES = CocoKeypoints(
    images=[CocoImage(id=i, file_name=f"v/{i}.png", width=9, height=9) for i in (7, 2, 5)],
    categories=[],
    annotations=[],
)


def instance(image_id: int, score: float) -> dict:
    points = {"category_id": 1, "keypoints": [1.5, 2.5, 0.1], "score": score}
    return {"image_id": image_id, **points, "file_name": f"../../v/{image_id}.png", "channels": {}}


def write(path, entries):
    path.write_text(json.dumps(entries))
    return path


def test_entries_are_in_the_order_of_the_data_set_and_keep_their_form(tmp_path) -> None:
    one = write(tmp_path / "a.json", [instance(5, 0.1), instance(7, 0.2), instance(5, 0.3)])
    other = write(tmp_path / "b.json", [instance(2, 0.4)])
    found = out_of_fold_predictions([one, other], COCO_IMAGES)
    assert [(entry["image_id"], entry["score"]) for entry in found] == [
        (7, 0.2),
        (2, 0.4),
        (5, 0.1),
        (5, 0.3),
    ]
    assert found[0] == {**instance(7, 0.2), "file_name": "v/7.png"}


def test_the_form_of_results_is_kept_only_where_all_folds_have_it(tmp_path) -> None:
    one = write(tmp_path / "a.json", [instance(7, 0.2)])
    other = write(tmp_path / "b.json", [{"image_id": 2, "file_name": "x", "channels": {}}])
    found = out_of_fold_predictions([one, other], COCO_IMAGES)
    assert [set(entry) for entry in found] == [{"image_id", "file_name", "channels"}] * 2


def test_pycocotools_scores_the_file(tmp_path, capsys: pytest.CaptureFixture) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = [
        {"id": n, "image_id": i, "category_id": 1, "keypoints": [1.5, 2.5, 2], "num_keypoints": 1}
        | {"area": 16.0, "bbox": [0, 0, 4, 4], "iscrowd": 0}
        for n, i in enumerate((7, 2, 5), start=1)
    ]
    images = [image.model_dump(exclude_unset=True) for image in COCO_IMAGES.images]
    categories = [{"id": 1, "name": "bird", "keypoints": ["beak"], "skeleton": []}]
    write(tmp_path / "labels.json", {"images": images, "annotations": labels, "categories": categories})
    one = write(tmp_path / "a.json", [instance(5, 0.6), instance(7, 0.9)])
    other = write(tmp_path / "b.json", [instance(2, 0.4)])
    write_results(tmp_path / "all.json", out_of_fold_predictions([one, other], COCO_IMAGES))
    truth = COCO(str(tmp_path / "labels.json"))
    referee = COCOeval(truth, truth.loadRes(str(tmp_path / "all.json")), "keypoints")
    referee.params.kpt_oks_sigmas = np.array([0.05])
    referee.evaluate()
    referee.accumulate()
    referee.summarize()
    assert referee.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "expected a list of predictions"), ("{", "remove it"), ('[{"image_id": 8}]', "got 8")],
)
def test_what_is_no_prediction_of_the_data_set_is_refused(content, message, tmp_path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        out_of_fold_predictions([tmp_path / "a.json"], COCO_IMAGES)
    assert str(caught.value).startswith(str(tmp_path / "a.json"))
