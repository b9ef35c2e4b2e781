"""Write `dataset_512x512/` beside `dataset/`: images, points, boxes and areas in another size.

python labeling/scripts/resize_coco_dataset.py dataset/annotations.json --size 512x512 [--letterbox]

It is `keypoint-detection resize`, with the same flags.
"""

import sys

from keypoint_detection.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["resize", *sys.argv[1:]]))
