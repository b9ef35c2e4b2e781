"""A made-up evaluation with drawn pictures, for the page of a report."""

from typing import Any

import cv2
import numpy as np
from headless_browser import Browser

from keypoint_detection.utils.colours import palette

Report = tuple[dict[str, Any], list[bytes], list[bytes]]

NAMES = (
    "nose", "left_ear", "right_ear", "neck", "left_shoulder", "right_shoulder",
    "left_hip", "right_hip", "back", "tail_base", "tail_mid", "tail_tip",
)  # fmt: skip
SKELETON = [[0, 1], [0, 2], [0, 3], [3, 4], [3, 5], [3, 8], [8, 6], [8, 7], [8, 9], [9, 10], [10, 11]]
PLACES = np.array(
    [
        (0.0, -1.0), (-0.28, -0.78), (0.28, -0.78), (0.0, -0.6), (-0.33, -0.38), (0.33, -0.38),
        (-0.36, 0.35), (0.36, 0.35), (0.0, 0.0), (0.0, 0.6), (0.16, 0.95), (-0.05, 1.3),
    ]
)  # fmt: skip
SIZE = (480, 360)
"""Width and height of the drawn images in pixels."""


def encode(kind: str, picture: np.ndarray) -> bytes:
    done, content = cv2.imencode(kind, picture)
    assert done
    return content.tobytes()


def draw_scene(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a picture `[h, w, 3]` with a body whose points are `[12, 2]`."""
    width, height = SIZE
    rows, columns = np.indices((height, width))
    shade = 150 + 40 * np.sin(columns / 90 + rng.uniform(0, 6)) * np.cos(rows / 70)
    picture = np.stack([shade + offset for offset in rng.uniform(-25, 25, 3)], axis=2)
    picture = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
    places = [tuple(int(part) for part in point) for point in points.round()]
    for start, end in SKELETON:
        cv2.line(picture, places[start], places[end], (52, 60, 74), 26, cv2.LINE_AA)
    cv2.circle(picture, places[0], 15, (52, 60, 74), -1, cv2.LINE_AA)
    return picture


def draw_heatmap(points: np.ndarray) -> np.ndarray:
    """Return a transparent heatmap `[h / 4, w / 4, 4]` of bright places."""
    width, height = SIZE
    rows, columns = np.indices((height // 4, width // 4))
    heat = np.zeros(rows.shape)
    for x, y in points:
        away = (columns - x / 4) ** 2 + (rows - y / 4) ** 2
        heat = np.maximum(heat, np.exp(-away / (2 * 2.5**2)))
    level = (255 * heat).astype(np.uint8)
    return np.dstack([cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), level])


def make_image(number: int, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """Return an image's content, and the predicted points `[12, 2]`."""
    width, height = SIZE
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(70, 110)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = PLACES @ turn.T * size + (width / 2 + rng.uniform(-50, 50), height / 2 + rng.uniform(-20, 20))
    points = points.clip(4, (width - 5, height - 5))
    found = points + rng.normal(0, 1.2 + 9 * rng.random() ** 6, points.shape) * (
        1 + np.arange(12)[:, None] / 8
    )
    seen = rng.random(12) > 0.06
    labels = [
        [channel, *np.round(point, 2).tolist(), int(rng.choice([2, 2, 2, 1]))]
        for channel, point in enumerate(points)
    ]
    predictions = [
        [channel, *np.round(found[channel], 2).tolist(), round(float(rng.uniform(0.3, 0.99)), 3)]
        for channel in np.flatnonzero(seen).tolist()
    ]
    lines = [[channel, place] for place, (channel, *_) in enumerate(predictions)]
    for _ in range(int(rng.integers(0, 4))):
        extra = [rng.uniform(0, width - 1), rng.uniform(0, height - 1), rng.uniform(0.02, 0.4)]
        predictions.append([int(rng.integers(12)), *np.round(extra, 2).tolist()])
    errors = np.linalg.norm(np.array([found[c] - points[c] for c, _ in lines]), axis=1)
    low, high = points.min(axis=0) - 8, points.max(axis=0) + 8
    image = {
        "id": str(number),
        "name": f"session_{number % 4}/frame_{number:04d}.png",
        "group": f"session_{number % 4}",
        "w": width,
        "h": height,
        "error": float(errors.mean()),
        "worst": float(errors.max()),
        "missed": int((~seen).sum()),
        "labels": labels,
        "predictions": predictions,
        "lines": lines,
        "boxes": [np.round([*low, *(high - low)], 1).tolist()],
        "pick": None,
        "picture": number,
        "heatmap": None,
    }
    return image, found


def pick_images(images: list[dict[str, Any]]) -> None:
    order = sorted(range(len(images)), key=lambda place: -images[place]["error"])
    middle = len(order) // 2
    for pick, places in {
        "worst": order[:4],
        "median": order[middle : middle + 2],
        "best": order[-2:],
    }.items():
        for place in places:
            images[place]["pick"] = pick


def make_table(rng: np.random.Generator) -> dict[str, Any]:
    columns = [
        {"name": "ap", "label": "AP", "better": "high", "digits": 3},
        {"name": "pck", "label": "PCK@0.1", "better": "high", "digits": 3},
        {"name": "error", "label": "Mean error (px)", "better": "low", "digits": 2},
        {"name": "missed", "label": "Missed", "better": "low", "digits": 0},
    ]
    rows = []
    for place, (name, colour) in enumerate(zip(NAMES, palette(12), strict=True)):
        ap = 0.97 - 0.03 * place + rng.normal(0, 0.01)
        error = 1.4 + 0.3 * place
        cells = [
            {"value": ap, "interval": [ap - 0.05, min(ap + 0.03, 1)]},
            {"value": min(ap + 0.05, 1), "interval": [ap, min(ap + 0.07, 1)]},
            {"value": error, "interval": [error - 0.3, error + 0.5]},
            {"value": place % 5, "interval": None},
        ]  # fmt: skip
        if place == 11:
            cells[2] = {"value": None, "interval": None}
        rows.append({"channel": name, "colour": colour, "labels": 60 - place, "cells": cells})
    return {"columns": columns, "rows": rows}


def make_charts(rng: np.random.Generator) -> dict[str, Any]:
    edges = np.linspace(0, 12, 25)
    samples = {name: rng.rayleigh(1.0 + place / 6, 60) for place, name in enumerate(NAMES)}
    counts = {name: np.histogram(errors, edges)[0].tolist() for name, errors in samples.items()}
    alphas = np.linspace(0.01, 0.2, 20)
    curves = [
        {"channel": name, "values": [float((errors < alpha * 40).mean()) for alpha in alphas]}
        for name, errors in samples.items()
    ]
    mean = np.mean([curve["values"] for curve in curves], axis=0).tolist()
    recall = np.linspace(0, 1, 51)
    recalls = [
        {
            "channel": name,
            "threshold": f"{threshold}px",
            "ap": 0.98 - place * 0.04 + threshold / 100,
            "recall": recall.tolist(),
            "precision": (1 - recall ** (14 - place + threshold) * (0.3 + 0.05 * place)).tolist(),
        }
        for threshold in (2, 4, 8)
        for place, name in enumerate(NAMES)
    ]
    epochs = list(range(40))
    fall = np.exp(-np.array(epochs) / 9)
    train = (0.4 * fall + 0.004 + rng.uniform(0, 0.002, 40)).tolist()
    validation: list[float | None] = (0.4 * fall + 0.012 + rng.uniform(0, 0.004, 40)).tolist()
    validation[7] = None
    rise = [{"name": "validation", "x": epochs, "y": (0.93 * (1 - fall)).tolist()}]
    loss = [
        {"name": "train", "x": epochs, "y": train},
        {"name": "validation", "x": epochs, "y": validation},
    ]
    return {
        "errors": {"edges": edges.tolist(), "channels": counts, "beyond": 3, "missed": 41},
        "pck": {
            "unit": "box side",
            "alphas": alphas.tolist(),
            "curves": [{"channel": "all", "values": mean}, *curves],
        },
        "precisionRecall": recalls,
        "training": [
            {"title": "loss", "log": True, "series": loss},
            {"title": "AP (mean)", "log": False, "series": rise},
        ],
    }


def make_headline() -> list[dict[str, Any]]:
    precision = "Mean average precision over channels and distances of 2, 4 and 8 px."
    numbers = [
        ("map", "AP (mean)", 0.8734, [0.851, 0.894], precision),
        ("ap@2px", "AP at 2 px", 0.7012, [0.66, 0.74], "A prediction counts within 2 px of its label."),
        ("mean_error_px", "Mean error (px)", 2.4312, [2.2, 2.71], "Mean distance of predictions to labels."),
        ("rmse_px", "RMSE (px)", 3.912, [3.3, 4.6], "Root of the mean squared distance."),
        ("pck@0.1", "PCK at 0.1", 0.9431, [0.93, 0.957], "Labels found within a tenth of the box side."),
        ("oks_ap", "OKS AP", None, None, "COCO's average precision; undefined without areas of instances."),
    ]  # fmt: skip
    keys = ("name", "label", "value", "interval", "meaning")
    return [dict(zip(keys, number, strict=True)) for number in numbers]


def make_report(count: int = 60) -> tuple[dict[str, Any], list[bytes], list[bytes]]:
    """Return the content, pictures and heatmaps of an evaluation of `count` images and 12 channels."""
    rng = np.random.default_rng(5)
    drawn = [make_image(number, rng) for number in range(count)]
    images = [image for image, _ in drawn]
    pick_images(images)
    pictures, heatmaps = [], []
    for image, found in drawn:
        points = np.array([label[1:3] for label in image["labels"]])
        scene = draw_scene(points, rng)
        if image["pick"]:
            image["heatmap"] = len(heatmaps)
            heatmaps.append(encode(".png", draw_heatmap(found)))
        else:
            scene = cv2.resize(scene, (256, 192), interpolation=cv2.INTER_AREA)
        pictures.append(encode(".jpg", scene))
    content = {
        "title": "openfield, fold 1",
        "subtitle": f"last.ckpt on validation.json: {count} images, {12 * count} labels",
        "headline": make_headline(),
        "intervals": {
            "level": 0.95,
            "unit": "image",
            "units": count,
            "resamples": 1000,
            "method": "bootstrap",
        },
        "notes": [
            "tail_tip has no error: none of its labels has a prediction near enough.",
            "2 labels lie outside their image.",
        ],
        "contract": [
            ["similarity", "distance in pixels of the original image"],
            ["thresholds", "2, 4 and 8 px"],
            ["assignment", "greedy in the order of the scores; each takes the nearest free label"],
        ],
        "hash": "9f1c2d7ab04e55aa",
        "perKeypoint": make_table(rng),
        "charts": make_charts(rng),
        "channels": [
            {"name": name, "colour": colour} for name, colour in zip(NAMES, palette(12), strict=True)
        ],
        "skeleton": SKELETON,
        "images": images,
        "config": "backbone: vit_small\nbatch_size: 16\nheatmap_sigma_px: 2.0\nmax_epochs: 40\n",
        "environment": [["keypoint-detection", "2.0.0"], ["torch", "2.15.0"], ["device", "cpu"]],
    }
    return content, pictures, heatmaps


def set_control(browser: Browser, selector: str, value: str) -> None:
    browser.run(
        f"""(() => {{ const one = document.querySelector({selector!r}); one.value = {value!r};
        one.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"""
    )


def shown(browser: Browser) -> tuple[int, int]:
    """Return how many images are shown, and how many errors the page had."""
    values = browser.run("[document.body.dataset.shown, document.body.dataset.errors]")
    return int(values[0]), int(values[1])
