"""What an evaluation stores of each image: enough to compute every number again for any resample of them."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.files import atomic_write
from keypoint_detection.metrics.average_precision_statistic import AveragePrecisionStatistic
from keypoint_detection.metrics.bootstrap import Interval, IntervalMethod, bootstrap_statistics
from keypoint_detection.metrics.image_statistics import ImageStatistic, RatioStatistic
from keypoint_detection.metrics.oks_curve import OKSStatistic
from keypoint_detection.metrics.visibility_statistics import VisibilityStatistic

FORMAT = "keypoint_detection score sheet"
VERSION = 1
HEADER, IMAGE_IDS = "header", "image_ids"
"""Names of the two arrays of a file that are of no statistic."""

BROKEN_FILE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What reading a file of another kind, or half of a file, may raise."""


@dataclass(frozen=True)
class ReindexedStatistic:
    """Hold a statistic over m samples as one over n images, each of which may have any number of samples.

    Attributes:
        statistic: The numbers as a function of how often each sample counts.
        index: int64 `[m]`, the image of each sample, in [0, n).
    """

    statistic: ImageStatistic
    index: Tensor

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of each of the s numbers."""
        return self.statistic.columns

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the numbers for weights `[b, n]` of the images, `[b, s]`."""
        return self.statistic(weights[:, self.index])

    def value(self) -> Tensor:
        """Return the numbers with every sample counted once, `[s]`."""
        return self.statistic.value()


STATISTICS = {
    kind.__name__: kind
    for kind in (
        *(RatioStatistic, AveragePrecisionStatistic, OKSStatistic, VisibilityStatistic, ReindexedStatistic),
    )
}
"""What a file may hold, by the name that it has there."""


@dataclass(frozen=True)
class ScoreSheet:
    """Hold the scores of n images.

    Attributes:
        image_ids: int64 `[n]`, each once.
        groups: The group of each image, `[n]`: what a resample draws as one; None draws images.
        statistics: The numbers as functions of how often each image counts; no column twice.
    """

    image_ids: Tensor
    groups: tuple[str, ...] | None
    statistics: tuple[ImageStatistic, ...]

    def __post_init__(self) -> None:
        n = len(self.image_ids)
        if len(self.image_ids.unique()) != n:
            raise ValueError(f"expected every image id once, got {n - len(self.image_ids.unique())} again")
        if self.groups is not None and len(self.groups) != n:
            raise ValueError(f"expected a group for each of {n} images, got {len(self.groups)}")

    @property
    def columns(self) -> list[str]:
        """Return the names of all numbers."""
        return [column for statistic in self.statistics for column in statistic.columns]

    def values(self) -> dict[str, float]:
        """Return all numbers over all images by name, NaN where undefined."""
        numbers = [number for statistic in self.statistics for number in statistic.value().tolist()]
        return dict(zip(self.columns, numbers, strict=True))

    def intervals(
        self, n_resamples: int = 1000, level: float = 0.95, method: IntervalMethod = "bca", seed: int = 0
    ) -> dict[str, Interval]:
        """Return all numbers with their bootstrap intervals; see `bootstrap_statistics`."""
        return bootstrap_statistics(
            self.statistics,
            n_images=len(self.image_ids),
            groups=self.groups,
            n_resamples=n_resamples,
            level=level,
            method=method,
            seed=seed,
        )

    def in_order_of_ids(self) -> "ScoreSheet":
        """Return the same scores with the images in rising order of their ids."""
        order = self.image_ids.argsort()
        groups = None if self.groups is None else tuple(self.groups[row] for row in order.tolist())
        new_rows = order.argsort()
        statistics = tuple(reindexed(statistic, new_rows) for statistic in self.statistics)
        return ScoreSheet(self.image_ids[order], groups, statistics)


def reindexed(statistic: ImageStatistic, index: Tensor) -> ImageStatistic:
    """Return a statistic over samples as one over their images.

    Sums run over the samples in the order of their images, so that files which list the same images in
    another order give the same bits.

    Args:
        statistic: Over m samples.
        index: int64 `[m]`, the image of each sample.
    """
    if isinstance(statistic, ReindexedStatistic):
        statistic, index = statistic.statistic, index[statistic.index]
    if isinstance(statistic, RatioStatistic):
        order = index.argsort(stable=True)
        bottom = None if statistic.denominator is None else statistic.denominator[order]
        top, index = statistic.numerator[order], index[order]
        statistic = RatioStatistic(statistic.columns, top, bottom, statistic.root)
    return ReindexedStatistic(statistic, index)


def save_score_sheet(sheet: ScoreSheet, path: str | Path) -> None:
    """Write a sheet as one `.npz` file, bit for bit; the old file or the new one is there, never half.

    Raises:
        TypeError: A statistic is of a class that `STATISTICS` lacks, or a field of a type that no file holds.
    """
    arrays: dict[str, NDArray[Any]] = {IMAGE_IDS: sheet.image_ids.cpu().numpy()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "groups": None if sheet.groups is None else list(sheet.groups),
        "statistics": [
            _packed(statistic, f"statistic{i}", arrays) for i, statistic in enumerate(sheet.statistics)
        ],
    }
    arrays[HEADER] = np.frombuffer(json.dumps(header).encode("utf-8"), np.uint8)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType] - no array is a flag


def load_score_sheet(path: str | Path) -> ScoreSheet:
    """Read a sheet that `save_score_sheet` wrote; nothing in the file is ever run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, only a part of one, or one of another version; one line.
    """
    again = "score the run again with keypoint-detection eval"
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the scores of each image, found no such file; {again}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays[HEADER].tobytes())
        if header["format"] == FORMAT and header["version"] != VERSION:
            kind = f"version {header['version']} of the file, expected {VERSION}"
        else:
            return _sheet(header, arrays)
    except BROKEN_FILE as error:
        kind = f"no file of scores, or a part of one ({' '.join(str(error).split()) or type(error).__name__})"
    raise ValueError(f"{path}: got {kind}; {again}")


def _sheet(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ScoreSheet:
    if header["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT!r}")
    groups = header["groups"]
    statistics = tuple(_unpacked(statistic, arrays) for statistic in header["statistics"])
    image_ids = torch.from_numpy(arrays[IMAGE_IDS])
    return ScoreSheet(image_ids, None if groups is None else tuple(groups), statistics)


def _packed(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return a field as JSON, with its tensors put into `arrays` under names that start with `name`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        arrays[name] = value.detach().cpu().numpy()
        return {"array": name}
    if isinstance(value, tuple):
        return [_packed(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    kind = type(value).__name__
    if STATISTICS.get(kind) is not type(value):
        raise TypeError(f"expected a statistic, a tensor or a plain value as {name}, got {kind}")
    parts = {
        field.name: _packed(getattr(value, field.name), f"{name}.{field.name}", arrays)
        for field in fields(value)
    }
    return {"class": kind, "fields": parts}


def _unpacked(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Undo `_packed`."""
    if isinstance(value, list):
        return tuple(_unpacked(part, arrays) for part in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return torch.from_numpy(arrays[value["array"]])
    parts = {field: _unpacked(part, arrays) for field, part in value["fields"].items()}
    return STATISTICS[value["class"]](**parts)
