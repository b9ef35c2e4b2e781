import cv2
import numpy as np
import pandas as pd

from keypoint_detection.data.formats.deeplabcut import read_deeplabcut
from keypoint_detection.data.formats.deeplabcut_writer import write_deeplabcut

TABLE = "CollectedData_keypoint_detection"


def test_a_dot_lies_where_its_label_says(tmp_path):
    rows, columns = np.mgrid[:40, :60]
    place = (31.37, 14.81)
    dot = 255 * np.exp(-((columns - place[0]) ** 2 + (rows - place[1]) ** 2) / 8)
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    assert cv2.imwrite(str(folder / "a.png"), dot.round().astype(np.uint8))
    # DeepLabCut's tool counts from the centre of a pixel, so the label is the place itself
    (folder / "CollectedData_A.csv").write_text(
        f"scorer,A,A\nbodyparts,dot,dot\ncoords,x,y\nlabeled-data/v/a.png,{place[0]},{place[1]}\n"
    )
    conversion = read_deeplabcut(tmp_path)
    seen = cv2.imread(str(conversion.image_paths[1]), cv2.IMREAD_GRAYSCALE)
    assert seen is not None
    centroid = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    (entry,) = conversion.coco.annotations
    assert np.abs(np.array(entry.keypoints[:2]) - centroid).max() <= 0.05
    for entry in conversion.coco.images:
        (tmp_path / "coco" / entry.file_name).parent.mkdir(parents=True)
        (tmp_path / "coco" / entry.file_name).write_bytes((folder / "a.png").read_bytes())
    write_deeplabcut(conversion.coco, tmp_path / "coco", tmp_path / "back")
    table = pd.read_hdf(tmp_path / "back" / "labeled-data" / "v" / f"{TABLE}.h5")
    assert np.abs(table.to_numpy()[0] - centroid).max() <= 0.05
