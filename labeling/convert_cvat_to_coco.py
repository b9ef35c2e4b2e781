"""Write a COCO data set from what CVAT exports ("CVAT for images 1.1").

python labeling/convert_cvat_to_coco.py --cvat_xml_file annotations.xml --output dataset \
    [--coco_categories_config_path categories.json]

It is `keypoint-detection convert cvat`; flags that are not listed here are passed on to it.
"""

import argparse
import sys

from keypoint_detection.__main__ import main


def convert_arguments(argv: list[str]) -> list[str]:
    """Return the arguments of the command for those of this script."""
    parser = argparse.ArgumentParser(
        description="Write a COCO data set from an export of CVAT.", allow_abbrev=False
    )
    parser.add_argument("--cvat_xml_file", required=True, help="annotations.xml, beside the images")
    parser.add_argument("--output", default="dataset", help="folder of the new data set (default: dataset)")
    parser.add_argument("--coco_categories_config_path", help="JSON of the categories and their keypoints")
    args, others = parser.parse_known_args(argv)
    categories = args.coco_categories_config_path
    chosen = ["--categories", categories] if categories else []
    return ["convert", "cvat", args.cvat_xml_file, "--output", args.output, *chosen, *others]


if __name__ == "__main__":
    sys.exit(main(convert_arguments(sys.argv[1:])))
