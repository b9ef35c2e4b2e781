"""The doctor: examine a data set in seconds, without a training, and say in words what is wrong with it."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.doctor_categories import category_findings, channel_findings, unlabelled_findings
from keypoint_detection.doctor_duplicates import duplicate_findings
from keypoint_detection.doctor_files import LabelFile, read_label_file
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.doctor_images import Picture, image_findings, image_path, read_pictures
from keypoint_detection.doctor_labels import InstanceTable, instance_tables, label_findings
from keypoint_detection.doctor_sides import side_findings
from keypoint_detection.doctor_symmetry import symmetry_findings, symmetry_proposals

CODES = (
    "file-broken",
    "field-missing",
    "field-value",
    "id-duplicate",
    "image-reference",
    "category-reference",
    "keypoint-count",
    "visibility-value",
    "image-missing",
    "image-unreadable",
    "image-size",
    "image-name-twice",
    "images-duplicate",
    "point-outside",
    "point-doubled",
    "area-zero",
    "box-missing",
    "box-points",
    "num-keypoints",
    "sides-swapped",
    "symmetry-inconsistent",
    "category-empty",
    "channel-empty",
    "crowd-labelled",
    "image-unlabelled-share",
    "images-near",
)
"""Every code of this examination, in the order of the report."""
SHOWN = 5
"""Findings of one code that the text report shows; JSON has them all."""


@dataclass(frozen=True)
class Examination:
    """Hold what was found.

    Attributes:
        findings: Errors first, then by code in the order of `CODES`, file, image and annotation.
        counts: What was examined: files, images, image files read, annotations, labelled points.
        proposals: Lines about what could be declared; nothing is wrong without it.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, int]
    proposals: tuple[str, ...] = ()


def examine(
    json_paths: Sequence[str | Path],
    *,
    channels: str | Sequence[Sequence[str] | str] | None = None,
    images: bool = True,
    workers: int | None = None,
) -> Examination:
    """Examine the COCO files of a data set together: what they say of themselves, and against each other.

    Args:
        json_paths: The files, such as the training and the validation split; any content is examined.
        channels: The channels of a training, see `parse_channels`, to be checked against the labels.
        images: False leaves the image files unread.
        workers: Threads that read images; None takes one per processor, 32 at most.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No file is given, or one twice.
    """
    paths = [Path(path) for path in json_paths]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        got = "one twice" if paths else "none"
        raise ValueError(f"expected one or more COCO files to examine, each once, got {got}")
    findings: list[Finding] = []
    files, tables = [], []
    for path in paths:
        labels, found = read_label_file(path)
        files.append(labels)
        findings += found
    pictures = read_pictures(files, workers) if images else {}
    for labels in files:
        if any(finding.code == "file-broken" and finding.file == str(labels.path) for finding in findings):
            continue
        own = instance_tables(labels, _known_sizes(labels, pictures))
        tables += own
        findings += _file_findings(labels, own, pictures)
    findings += side_findings(tables)
    findings += duplicate_findings(files, pictures) if images else []
    if channels is not None:
        findings += channel_findings(files, tables, channels)
    order = {file: index for index, file in enumerate(map(str, paths))}
    ordered = sorted(findings, key=lambda finding: _sort_key(finding, order))
    return Examination(tuple(ordered), _counts(files, tables, pictures), symmetry_proposals(files))


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 where any finding is an error, else 0."""
    return int(any(finding.severity == "error" for finding in findings))


def report_text(examination: Examination) -> str:
    """Return the findings as text, a line each, at most `SHOWN` of a code and severity."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in examination.findings:
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    several = examination.counts.get("files", 1) > 1
    examined = (f"{count} {_singular(name, count)}" for name, count in examination.counts.items())
    lines = ["examined " + ", ".join(examined)]
    for (severity, code), found in groups.items():
        lines += [
            f"{severity} {code}: {_place(finding, several)}{finding.message}" for finding in found[:SHOWN]
        ]
        if len(found) > SHOWN:
            lines.append(f"{severity} {code}: ... and {len(found) - SHOWN} more")
    errors = sum(finding.severity == "error" for finding in examination.findings)
    warnings = len(examination.findings) - errors
    lines += [f"proposal: {line}" for line in examination.proposals]
    found = f"{_numbered(errors, 'error')}, {_numbered(warnings, 'warning')}"
    lines.append(found if errors + warnings else "nothing found")
    return "\n".join(lines)


def _numbered(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _singular(name: str, count: int) -> str:
    """Return the name of a count, such as "image files read", as one of it is called."""
    return re.sub(r"s\b", "", name) if count == 1 else name


def report_json(examination: Examination) -> dict[str, Any]:
    """Return all findings as plain values, ready for JSON."""
    return {
        "counts": dict(examination.counts),
        "errors": sum(finding.severity == "error" for finding in examination.findings),
        "warnings": sum(finding.severity == "warning" for finding in examination.findings),
        "findings": [asdict(finding) for finding in examination.findings],
        "proposals": list(examination.proposals),
    }


def _file_findings(
    labels: LabelFile, tables: Sequence[InstanceTable], pictures: dict[Path, Picture]
) -> list[Finding]:
    findings = list(image_findings(labels, pictures)) if pictures else []
    for table in tables:
        findings += label_findings(table)
    findings += symmetry_findings(labels)
    findings += category_findings(labels, tables)
    findings += unlabelled_findings(labels, tables)
    return findings


def _known_sizes(labels: LabelFile, pictures: dict[Path, Picture]) -> dict[int, tuple[int, int]]:
    """Return height and width of the images whose files were read, by image id."""
    found = {image.id: pictures.get(image_path(labels, image)) for image in labels.images.values()}
    return {identity: picture.hw for identity, picture in found.items() if picture and picture.hw}


def _sort_key(finding: Finding, order: dict[str, int]) -> tuple[Any, ...]:
    code = CODES.index(finding.code) if finding.code in CODES else len(CODES)
    ids = [
        (-(2**63) if identity is None else identity) for identity in (finding.image_id, finding.annotation_id)
    ]
    return finding.severity, code, order.get(finding.file, len(order)), *ids, finding.message


def _place(finding: Finding, several: bool) -> str:
    parts = [Path(finding.file).name] if several and finding.file else []
    parts += [f"image {finding.image_id}"] if finding.image_id is not None else []
    parts += [f"annotation {finding.annotation_id}"] if finding.annotation_id is not None else []
    return f"{', '.join(parts)}: " if parts else ""


def _counts(
    files: Sequence[LabelFile], tables: Sequence[InstanceTable], pictures: dict[Path, Picture]
) -> dict[str, int]:
    return {
        "files": len(files),
        "images": sum(len(labels.images) for labels in files),
        "image files read": sum(picture.hw is not None for picture in pictures.values()),
        "annotations": sum(labels.num_annotations for labels in files),
        "labelled points": sum(int(np.isfinite(table.xy[..., 0]).sum()) for table in tables),
    }
