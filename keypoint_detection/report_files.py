"""The files that an evaluation leaves in its folder, read back and checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from keypoint_detection.compare_reading import check_belongs
from keypoint_detection.data.coco_parser import Number, Numbers
from keypoint_detection.data.coco_results import Identity, read_entries
from keypoint_detection.evaluation_report import VISIBLE_ONLY, WHOLE_IMAGE
from keypoint_detection.score_sheet import ScoreSheet, load_score_sheet

METRICS_FILE, PREDICTIONS_FILE, MATCHES_FILE = "metrics.json", "predictions.json", "matches.npz"

SCORE_AGAIN = "score the run again with keypoint-detection eval"

SAMPLE_FORM = '{"image_id", "channels": {name: [{"x", "y", "score"}]}}'


class FoundPoint(BaseModel):
    """Hold one detection: x, y in pixels of the original image, score in [0, 1]; visibility 1: occluded."""

    x: Number
    y: Number
    score: Number
    visibility: Literal[1, 2] = 2


class FoundSample(BaseModel):
    """Hold the detections in one sample, an image or a crop of it: the box where it is a crop."""

    image_id: Identity
    channels: dict[str, list[FoundPoint]]
    box: Numbers | None = None


class _Metric(BaseModel):
    value: float | None
    interval: list[float] | None = None
    per_channel: dict[str, float | None] = Field(default_factory=dict)
    per_channel_interval: dict[str, list[float] | None] = Field(default_factory=dict)


class _Contract(BaseModel):
    model_config = ConfigDict(extra="allow")

    hash: str
    channels: str
    box_source: str
    thresholds: list[float] = Field(default_factory=list)
    pck: dict[str, Any] = Field(default_factory=dict)


class _Metrics(BaseModel):
    contract: _Contract
    metrics: dict[str, _Metric]
    inference: dict[str, Any]
    intervals: dict[str, Any]


_SAMPLES = TypeAdapter(list[FoundSample])


@dataclass(frozen=True)
class EvaluationFiles:
    """Hold the content of the files of an evaluation.

    Attributes:
        folder: Where they are.
        report: The content of `metrics.json`: "contract", "metrics", "inference", "intervals".
        found: The detections of every sample, in the order in which they were scored.
        sheet: What the scores are computed from.
    """

    folder: Path
    report: dict[str, Any]
    found: list[FoundSample]
    sheet: ScoreSheet

    @property
    def is_whole_image(self) -> bool:
        """Tell whether the samples are whole images."""
        return self.report["contract"]["box_source"] == WHOLE_IMAGE

    @property
    def has_labels(self) -> bool:
        """Tell whether every sample has labels of its own; crops of detected boxes do not."""
        return "visibility" in self.report["contract"]

    @property
    def required_visibility(self) -> int:
        """Return the lowest visibility flag of a label that counts."""
        return 2 if self.report["contract"].get("visibility") == VISIBLE_ONLY else 1


def read_files(folder: str | Path) -> EvaluationFiles:
    """Read the three files of an evaluation.

    Args:
        folder: The folder that `eval` wrote.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or they are of two evaluations; one line.
    """
    folder = Path(folder)
    for name in (METRICS_FILE, PREDICTIONS_FILE, MATCHES_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"expected {METRICS_FILE}, {PREDICTIONS_FILE} and {MATCHES_FILE} in {folder}, found no "
                f"{name}; {SCORE_AGAIN}"
            )
    report = _read_metrics(folder / METRICS_FILE)
    found = read_entries(folder / PREDICTIONS_FILE, _SAMPLES, SAMPLE_FORM)
    sheet = load_score_sheet(folder / MATCHES_FILE)
    values = {name: metric["value"] for name, metric in report["metrics"].items()}
    check_belongs(folder, values, sheet.values())
    return EvaluationFiles(folder, report, found, sheet)


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        return _Metrics.model_validate_json(path.read_bytes()).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        field = f" in field {where!r}" if where else ""
        raise ValueError(
            f"{path}: expected the metrics of an evaluation, got a problem{field}: {first['msg']}; "
            f"{SCORE_AGAIN}"
        ) from None
