"""Predict the keypoints of images with a checkpoint: a short example of the Python API to copy from."""

import argparse

import keypoint_detection as kd


def main() -> None:
    """Print the points of each image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help=".ckpt file that a training wrote")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument(
        "--confidence_threshold", type=float, default=0.1, help="least score of a point, 0 to 1"
    )
    args = parser.parse_args()

    model = kd.load_model(args.checkpoint)
    for prediction in model.predict(args.images):
        print(prediction.source)
        for name in prediction.channel_names:
            points = [p for p in prediction[name] if p.score >= args.confidence_threshold]
            print(f"  {name}: " + "  ".join(f"({p.x:.2f}, {p.y:.2f}) {p.score:.2f}" for p in points))


if __name__ == "__main__":
    main()
