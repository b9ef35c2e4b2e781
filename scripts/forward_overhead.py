"""Check on an idle machine what the library adds to bare layers, and what a coarser output stride saves."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import create_backbone, list_backbones

NAMES = ("Unet", "ConvNeXtUnet", "MobileNetV3", "ViT-S_16")


def interleaved_medians(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each call, taken in turns, so that a busy moment meets them all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 2):
        for name in works if turn % 2 else reversed(works):
            start = time.perf_counter()
            works[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[2:]) for name, seconds in times.items()}


def plain_unet(unet: Any, image: torch.Tensor) -> torch.Tensor:
    """Run the default Unet as it is commonly written: convolution, batch normalisation, ReLU, one by one."""

    def plain(block: Any, features: torch.Tensor) -> torch.Tensor:
        features = block.norm(block.conv(features))
        return F.relu(features) if block.relu else features

    features, skips = plain(unet.down_blocks[0], image), []
    for block in unet.down_blocks[1:]:
        skips.append(features)
        features = plain(block, F.max_pool2d(features, 2))
    for block in unet.residual_blocks:
        features = F.relu(plain(block.second, plain(block.first, features)) + features)
    for block in unet.up_blocks:
        upsampled = F.interpolate(features, scale_factor=2, mode="nearest")
        features = plain(block, torch.cat([upsampled, skips.pop()], dim=1))
    return features


def compare(name: str, size: int, repeats: int) -> bool:
    """Time a backbone and its bare layers, print the ratios, and return whether their bounds are met."""
    backbone, image = create_backbone(name).eval(), torch.rand(1, 3, size, size)
    works = {"library": lambda: backbone(image), "bare layers": lambda: backbone.forward_features(image)}
    last = torch.channels_last  # every reference starts from the same plain image as the library
    works["bare layers, channels last"] = lambda: backbone.forward_features(image.to(memory_format=last))
    if name == "Unet":
        torch.testing.assert_close(plain_unet(backbone, image), backbone(image), atol=1e-4, rtol=1e-4)
        coarse = create_backbone(name, output_stride=4).eval()
        works["as commonly written"] = lambda: plain_unet(backbone, image)
        works["written so, channels last"] = lambda: plain_unet(backbone, image.to(memory_format=last))
        works["library, output stride 4"] = lambda: coarse(image)
    seconds = interleaved_medians(works, repeats)
    whole, stride_4 = seconds["library"], seconds.get("library, output stride 4", 0.0)
    for work, median in seconds.items():
        print(f"{name:14}{work:36}{1e3 * median:9.1f} ms   library / this {whole / median:6.3f}")
    met = 2.5 * stride_4 <= whole <= 1.05 * min(seconds[work] for work in works if "library" not in work)
    bounds = "<= 1.05, output stride 4 >= 2.5" if stride_4 else "<= 1.05"
    print(f"{name:14}all ratios {bounds}: {'ok' if met else 'MISSED'}", flush=True)
    return met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--threads", 2), ("--repeats", 15), ("--size", 512)):
        parser.add_argument(flag, type=int, default=default, help=f"default: {default}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, batch 1, {vars(args)}; medians")
    with torch.inference_mode():
        met = {name: compare(name, args.size, args.repeats) for name in NAMES if name in list_backbones()}
    missing = ", ".join(name for name in NAMES if name not in met)
    sys.exit(f"not registered, not compared: {missing}" if missing else not all(met.values()))
