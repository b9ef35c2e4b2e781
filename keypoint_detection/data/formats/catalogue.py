"""List the formats of labels, and where their functions are."""

from typing import NamedTuple

_HOME = "keypoint_detection.data.formats"


class Format(NamedTuple):
    """Name the functions of a format as `module:function`, imported when they are used.

    Attributes:
        reader: `(source, categories) -> Conversion`.
        writer: `(coco, image_folder, output) -> notes`, or None.
        description: What a source of this format is.
        extract: `(source, folder, coco) -> number of files`, for a format whose sources hold images: it
            writes those of `coco` that it can, each below the folder at its file name.
    """

    reader: str
    writer: str | None
    description: str
    extract: str | None = None


FORMATS = {
    "cvat": Format(
        f"{_HOME}.cvat:read_cvat", f"{_HOME}.cvat_writer:write_cvat", "CVAT's XML of images or of a video"
    ),
    "deeplabcut": Format(
        f"{_HOME}.deeplabcut:read_deeplabcut",
        f"{_HOME}.deeplabcut_writer:write_deeplabcut",
        "DeepLabCut project, folder, CSV or HDF5",
    ),
    "sleap": Format(
        f"{_HOME}.sleap:read_sleap",
        f"{_HOME}.sleap_export:write_sleap",
        "SLEAP labels, .slp, and the frames of its videos",
        extract=f"{_HOME}.sleap:extract_sleap_frames",
    ),
    "yolo": Format(
        f"{_HOME}.yolo:read_yolo", f"{_HOME}.yolo_writer:write_yolo", "YOLO pose folder with its data.yaml"
    ),
    "label-studio": Format(
        f"{_HOME}.label_studio:read_label_studio",
        f"{_HOME}.label_studio_export:write_label_studio",
        "Label Studio's JSON export",
    ),
    "named-json": Format(
        f"{_HOME}.named_json:read_named_json",
        f"{_HOME}.named_json:write_named_json",
        "JSON of named points as fractions of the image",
    ),
    "coco": Format(
        f"{_HOME}.coco:read_coco_labels",
        f"{_HOME}.coco:write_coco_labels",
        "COCO keypoint file, put into the form that this library expects",
    ),
}
