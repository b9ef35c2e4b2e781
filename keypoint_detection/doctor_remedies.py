"""Which one setting, if changed, would mend a loss: tried out, not guessed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from keypoint_detection.doctor_ceiling import perfect_scores
from keypoint_detection.doctor_merging import Pairs, crowded_channels, merges
from keypoint_detection.doctor_samples import LabelSamples, Settings, label_samples

ENLARGEMENTS = (1.5, 2.0, 3.0, 4.0)
SIZE_MULTIPLE = 32
"""Frames are rounded up to this many pixels, which suits most backbones."""
CEILING_SAMPLES = 16
LARGEST_FRAME_PX = 1024
"""Sides above which an enlargement is not tried for a ceiling."""


def separating(samples: LabelSamples, pairs: Pairs) -> str:
    """Return which changes bring pairs of labels that merge apart, all that can come apart.

    Args:
        samples: The samples under the settings where they merge.
        pairs: The pairs.
    """
    table, one, two = samples.table, samples.point[pairs.one], samples.point[pairs.two]
    pairs = pairs.select(np.any(table.xy[one] != table.xy[two], axis=1))
    same_name = table.name_index[one] == table.name_index[two]
    same_instance = table.instance[one] == table.instance[two]
    crops = ["--input_mode instance"] * bool(same_name.any())
    alone = ["a channel for each name"] * bool((~same_name & (same_instance | (not crops))).any())
    otherwise = " and ".join(crops + alone)
    if not len(pairs.one):
        return f"they are at one place, so only {otherwise} would part them"

    def parted(changed: LabelSamples) -> float:
        xy = changed.heatmap_xy
        distance = np.linalg.norm(xy[pairs.one] - xy[pairs.two], axis=1).astype(np.float64)
        return 1.0 - float(merges(changed, Pairs(pairs.one, pairs.two, distance)).mean())

    enough, best, share = _try(samples, parted, 1.0)
    if enough:
        return f"{enough} would part them"
    most = f"{best} would part {share:.0%} of them, " if best else ""
    return f"{most}{otherwise} would part all"


def raising(samples: LabelSamples, worst: list[int], score: str, least: float) -> str:
    """Return which changes bring a score of the ceiling above a limit, on the samples that lose most.

    Args:
        samples: The samples under the settings with the low ceiling.
        worst: Samples, the worst first; the first few are tried.
        score: A name of `DetectionScores.compute`.
        least: The limit.
    """
    positions = np.sort(np.array(worst[:CEILING_SAMPLES], np.int64))
    if not len(positions):
        return "it is lost where there is nothing to find, which only --head heatmap can tell"

    def reached(changed: LabelSamples) -> float:
        if changed.input_hw.max() > max(LARGEST_FRAME_PX, int(samples.input_hw.max())):
            return 0.0
        scores, _ = perfect_scores(changed, positions)
        return scores.compute()[score]

    enough, best, value = _try(samples, reached, least)
    where = f"on the {len(positions)} samples that lose most"
    if enough:
        return f"{enough} would be enough {where}"
    return f"no single change is enough, {best or 'none'} helps most ({score} {value:.3f} {where})"


def alternatives(samples: LabelSamples) -> Iterator[tuple[str, str, Settings]]:
    """Yield changes of one setting: its kind, how it is given, the settings; the mildest of a kind first."""
    settings = samples.settings
    if settings.head == "regression":
        yield "head", "--head heatmap", replace(settings, head="heatmap")
        return
    yield from _decoder_changes(samples)
    for sigma in (1.5, 1.0):
        if sigma < settings.sigma_px:
            yield "sigma", f"a last sigma of {sigma:g}", replace(settings, sigma_px=sigma)
    stride = settings.stride // 2
    while stride >= 1:
        yield "stride", f"--output_stride {stride}", replace(settings, stride=stride)
        stride //= 2
    frame_hw = settings.image_hw or tuple(samples.input_hw.max(axis=0).tolist())
    for factor in ENLARGEMENTS:
        height, width = (math.ceil(factor * side / SIZE_MULTIPLE) * SIZE_MULTIPLE for side in frame_hw)
        yield "size", f"--image_size {height}x{width}", replace(settings, image_hw=(height, width))


def _decoder_changes(samples: LabelSamples) -> Iterator[tuple[str, str, Settings]]:
    settings = samples.settings
    if settings.min_distance_px > 1:
        flag = "--minimal_keypoint_extraction_pixel_distance 1"
        yield "suppression", flag, replace(settings, min_distance_px=1)
    most = crowded_channels(samples)["most"]
    if settings.input_mode == "instance":
        for padding in (1.5, 2.0):
            if padding > settings.box_padding:
                yield "padding", f"--box_padding {padding:g}", replace(settings, box_padding=padding)
    elif most > settings.max_keypoints:
        yield "number", f"--max_keypoints {most}", replace(settings, max_keypoints=most)


def _try(
    samples: LabelSamples, measure: Callable[[LabelSamples], float], goal: float
) -> tuple[str, str, float]:
    """Try every change.

    Returns:
        The mildest change of each kind that reaches the goal, joined by "or", empty where none does; the
        change that comes closest, empty where none does anything; and how far it comes.
    """
    enough: dict[str, str] = {}
    best, most = "", 0.0
    for kind, text, settings in alternatives(samples):
        if kind in enough:
            continue
        value = measure(label_samples(samples.table, settings))
        if value >= goal:
            enough[kind] = text
        if value > most:
            best, most = text, value
    return " or ".join(enough.values()), best, most
