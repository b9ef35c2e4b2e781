"""Write one image per labelled instance, cut out around its box.

python labeling/scripts/crop_coco_dataset.py dataset/annotations.json [--padding 1.25] [--size 256x192]

It is `keypoint-detection crop`, with the same flags.
"""

import sys

from keypoint_detection.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["crop", *sys.argv[1:]]))
