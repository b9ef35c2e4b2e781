"""Find images that are there twice, and frames that hardly differ, by a perceptual hash and a closer look.

Every image has a difference hash of 64 bits: is each of 8 x 8 places darker than its right neighbour (8 x 9
grey means)? Pairs of close hashes are candidates, and a candidate counts only where the grey thumbnails agree
everywhere as well: frames of a fixed camera share their background, and with it most of their hash, but not
the animal. Source: the hash is Krawetz's dHash (2013); the closer look is ours.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.doctor_entries import show
from keypoint_detection.doctor_files import LabelFile
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.doctor_images import THUMBNAIL, Picture, image_path

IDENTICAL_BITS, NEAR_BITS = 2, 6
"""Differing bits of 64 up to which two hashes are candidates."""
IDENTICAL_LEVELS, NEAR_LEVELS = 6, 16
"""Largest difference of two thumbnails, each about its mean, in grey levels of 256."""
MIN_CONTRAST = 3.0
"""Standard deviation of a thumbnail, in grey levels, below which an image is blank and left alone."""
EXAMPLES = 3
_BLOCK = 256
_COARSE = 8


class _Shown(NamedTuple):
    file_index: int
    image_id: int
    file_name: str


class Twins(NamedTuple):
    """Hold the pairs of images that look alike, each `[p, 2]` indices with the earlier image first."""

    identical: NDArray[np.int64]
    near: NDArray[np.int64]


def duplicate_findings(files: Sequence[LabelFile], pictures: dict[Path, Picture]) -> list[Finding]:
    """Return what looks alike: within a file a warning, in two files an error, as scores are too good."""
    shown, kept = [], []
    for file_index, labels in enumerate(files):
        seen: set[Path] = set()
        for image in labels.images.values():
            path = image_path(labels, image)
            if path not in seen and pictures[path].thumbnail is not None:
                shown.append(_Shown(file_index, image.id, image.file_name))
                kept.append(pictures[path])
            seen.add(path)
    if len(kept) < 2:
        return []
    thumbnails = np.stack([picture.thumbnail for picture in kept if picture.thumbnail is not None])
    small = np.stack([picture.hash_thumbnail for picture in kept if picture.hash_thumbnail is not None])
    groups = np.array([image.file_index for image in shown], np.int64)
    twins = find_twins(thumbnails, difference_hash(small), groups)
    return [*_identical_findings(twins, shown, files), *_near_findings(twins, shown, files)]


def difference_hash(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the hash of each image, `[n]`, from its grey means `[n, 8, 9]`."""
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), 64)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def find_twins(thumbnails: NDArray[np.uint8], hashes: NDArray[np.uint64], groups: NDArray[np.int64]) -> Twins:
    """Return the pairs that look alike: for each image, the first earlier one of each group.

    Args:
        thumbnails: `[n, THUMBNAIL, THUMBNAIL]`, grey.
        hashes: `[n]`, of `difference_hash`.
        groups: `[n]`, from 0, such as the file that an image comes from.
    """
    grey = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    visible = np.flatnonzero(grey.std(1) >= MIN_CONTRAST)
    grey = grey[visible] - grey[visible].mean(1, keepdims=True)
    cells = THUMBNAIL // _COARSE
    coarse = grey.reshape(-1, _COARSE, cells, _COARSE, cells).mean((2, 4)).reshape(-1, _COARSE * _COARSE)
    codes, groups = hashes[visible], groups[visible]
    found: tuple[list, list] = ([], [])
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK, None] ^ codes[None, : start + _BLOCK]
        bits = np.bitwise_count(block)
        later, earlier = np.nonzero(bits <= NEAR_BITS)
        later += start
        ordered = earlier < later
        pairs = np.stack([earlier[ordered], later[ordered]], 1)
        pairs = _within(coarse, pairs, NEAR_LEVELS)  # a mean differs by no more than what it is the mean of
        pairs = _within(grey, pairs, NEAR_LEVELS)
        few_bits = bits[pairs[:, 1] - start, pairs[:, 0]] <= IDENTICAL_BITS
        same = few_bits & (_distances(grey, pairs) <= IDENTICAL_LEVELS)
        found[0].append(_first_partners(pairs[same], groups))
        found[1].append(_first_partners(pairs[~same], groups))
    empty = np.zeros((0, 2), np.int64)
    identical, near = (visible[np.concatenate([empty, *parts])] for parts in found)
    return Twins(identical, near)


def _first_partners(pairs: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of the pairs `[p, 2]` only the first partner of each later image in each group."""
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    keys = pairs[:, 1] * (groups.max(initial=0) + 1) + groups[pairs[:, 0]]
    _, first = np.unique(keys, return_index=True)
    return pairs[first]


def _within(values: NDArray[np.float32], pairs: NDArray[np.int64], limit: float) -> NDArray[np.int64]:
    return pairs[_distances(values, pairs) <= limit]


def _distances(values: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the largest difference within each pair, `[p]`, in blocks that stay small."""
    step = 1 << 14
    parts = [
        np.abs(values[part[:, 0]] - values[part[:, 1]]).max(1)
        for part in (pairs[start : start + step] for start in range(0, len(pairs), step))
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _identical_findings(twins: Twins, shown: list[_Shown], files: Sequence[LabelFile]) -> list[Finding]:
    """Return one finding per image that an earlier one repeats; a twin in another file comes first."""
    findings = []
    partner: dict[int, int] = {}
    for earlier, later in twins.identical.tolist():
        known = partner.setdefault(later, earlier)
        if shown[known].file_index == shown[later].file_index != shown[earlier].file_index:
            partner[later] = earlier
    for later, earlier in sorted(partner.items()):
        image, twin = shown[later], shown[earlier]
        between = image.file_index != twin.file_index
        where = f" of {files[twin.file_index].path.name}" if between else ""
        mend = (
            "leave it out of one of them, or scores on it say nothing"
            if between
            else "leave one of them out, unless both are wanted"
        )
        expected = "images in one split only" if between else "images that differ"
        message = (
            f"expected {expected}, got {show(image.file_name)} that looks the same as image {twin.image_id} "
            f"({show(twin.file_name)}){where}; {mend}"
        )
        severity = "error" if between else "warning"
        file = str(files[image.file_index].path)
        findings.append(Finding("images-duplicate", severity, message, image.image_id, file=file))
    return findings


def _near_findings(twins: Twins, shown: list[_Shown], files: Sequence[LabelFile]) -> list[Finding]:
    """Return one finding per file, or pair of files, that has near-identical frames."""
    by_files: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for earlier, later in twins.near.tolist():
        pair = (shown[later].file_index, shown[earlier].file_index)
        by_files[pair].setdefault(later, earlier)
    findings = []
    for (own, other), partners in sorted(by_files.items()):
        examples = ", ".join(
            f"{shown[later].image_id} ({show(shown[later].file_name)}) like {shown[earlier].image_id}"
            for later, earlier in sorted(partners.items())[:EXAMPLES]
        )
        more = ", ..." if len(partners) > EXAMPLES else ""
        place, mend = "", "they teach little, and must lie in the same split: split by group"
        if own != other:
            place = f" of {files[other].path.name}"
            mend = "scores on them are too good: split by group"
        count = f"{len(partners)} image{'s' if len(partners) > 1 else ''}"
        message = (
            f"expected frames that differ, got {count} nearly identical to an earlier one{place} "
            f"({examples}{more}); {mend}"
        )
        findings.append(Finding("images-near", "warning", message, file=str(files[own].path)))
    return findings
