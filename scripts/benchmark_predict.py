"""Time `predict` on a drawn video against the bare network on the same frames, and watch its memory."""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.data.video import VideoFrames
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference_options import InferenceOptions, prepared_hw
from keypoint_detection.predict import predict_to_files
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.utils.load_checkpoints import load_model


def draw_video(path: Path, count: int, hw: tuple[int, int]) -> None:
    """Write noise with a moving square."""
    noise = np.random.default_rng(0).integers(60, 120, (*hw, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, hw[::-1])
    for index in range(count):
        corner = (3 * index % (hw[1] - 40), 2 * index % (hw[0] - 40), 40, 40)
        writer.write(cv2.rectangle(noise.copy(), corner, (240, 200, 90), -1))
    writer.release()


def save_fresh_detector(path: Path) -> Path:
    """Write a checkpoint of the default backbone with random weights and three channels."""
    torch.manual_seed(0)
    detector = KeypointDetector([["a"], ["b"], ["c"]])
    torch.save({"hyper_parameters": dict(detector.hparams), "state_dict": detector.state_dict()}, path)
    return path


@torch.inference_mode()
def bare_seconds(detector: KeypointDetector, batches: list[torch.Tensor], count: int) -> float:
    """Return the time of `count` forward passes over batches that are in memory already."""
    detector(batches[0].to(detector.device))
    start = time.perf_counter()
    for index in range(count):
        detector(batches[index % len(batches)].to(detector.device))
    torch.accelerator.synchronize() if detector.device.type != "cpu" else None
    return time.perf_counter() - start


def resident_mib() -> float:
    """Return the memory of this process in MiB (Linux)."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--frames", 2000), ("--height", 480), ("--width", 640), ("--batch_size", 8)):
        parser.add_argument(flag, type=int, default=default, help=f"default: {default}")
    parser.add_argument("--checkpoint", help="default: a fresh Unet")
    args = parser.parse_args()
    options = PredictOptions(batch_size=args.batch_size, overlays=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        draw_video(video, args.frames, (args.height, args.width))
        model = Path(args.checkpoint) if args.checkpoint else save_fresh_detector(Path(folder, "model.ckpt"))
        detector, n, mib = load_model(model, device), args.batch_size, {}
        with VideoFrames(video, n_channels=detector.backbone.in_channels) as frames:
            near = zip(range(n * min(16, args.frames // n or 1)), frames, strict=False)  # flat memory
            samples = [prepare_image(f.image, prepared_hw(detector, InferenceOptions())) for _, f in near]
        batches = [collate_unlabeled(samples[i : i + n])["image"] for i in range(0, len(samples), n)]
        half = -(-args.frames // n) // 2 or 1  # before predict and after it, so that a drift meets both
        bare, start = bare_seconds(detector, batches, half), time.perf_counter()
        note = lambda done: mib.setdefault(100 * (4 * done // args.frames) // 4, resident_mib())  # noqa: E731
        found = predict_to_files(model, video, f"{folder}/out", options, device=device, on_progress=note)
        speed = found.n_images / (time.perf_counter() - start)
        bare_speed = 2 * half * n / (bare + bare_seconds(detector, batches, half))
    print(f"{args}, {device}, {torch.get_num_threads()} threads: {found.n_keypoints} keypoints")
    print(f"network {bare_speed:.2f}, predict {speed:.2f} frames/s, ratio {speed / bare_speed:.3f}")
    print("resident:", ", ".join(f"{share} % {size:.0f} MiB" for share, size in mib.items() if share))
