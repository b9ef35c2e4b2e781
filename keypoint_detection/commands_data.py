"""The commands about data sets: convert, doctor, browse, resize, crop, split, subset and merge."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from keypoint_detection.command_flags import command_parser, count, count_or_none, share, size

POINTING = ("sleap", "label-studio", "named-json")
"""Formats whose files point to the images of the COCO data set instead of holding copies."""
THROUGH_FILE = "coco.json"
"""What that COCO file is called where it stays beside the labels of another tool."""


def run_convert(argv: list[str]) -> int:
    """Convert labels of another tool to a COCO keypoint file, or to the format of a third."""
    from keypoint_detection.convert import FORMATS, convert_to_coco

    listed = "; ".join(f"{name}: {entry.description}" for name, entry in FORMATS.items())
    parser = command_parser("convert", "Convert labels of another tool to a COCO keypoint file, or back.")
    parser.add_argument("format", choices=[*FORMATS], metavar="FORMAT", help=listed)
    parser.add_argument("source", help="file, folder or project of that format")
    parser.add_argument("--output", required=True, help="folder for annotations.json and the images")
    parser.add_argument(
        "--to",
        default="coco",
        choices=[name for name, entry in FORMATS.items() if entry.writer],
        help="format to write",
    )
    parser.add_argument(
        "--categories", type=Path, help="JSON of categories and keypoints, where CVAT needs it"
    )
    parser.add_argument(
        "--link", action="store_true", help="point to the images where they are instead of copying"
    )
    args = parser.parse_args(argv)
    if args.to != "coco":
        if args.link:
            parser.error("argument --link: goes with --to coco; the other formats get copies of the images")
        return _convert_onwards(args)
    result = convert_to_coco(
        args.format, args.source, args.output, link=args.link, categories=args.categories
    )
    _print_notes(result.notes)
    print(f"{result.n_images} images, {result.n_annotations} instances, {result.n_keypoints} keypoints")
    print(f"written: {result.path}")
    return 0


def _convert_onwards(args: argparse.Namespace) -> int:
    """Write another format than COCO, through COCO."""
    from keypoint_detection.convert import convert_from_coco, convert_to_coco

    if args.format == "coco" and args.categories:
        raise ValueError("--categories: a COCO file has its categories itself; leave the flag out")
    with TemporaryDirectory() as folder:
        source, notes = args.source, ()
        if args.format != "coco":
            # what is written must not point to images in a folder that is gone afterwards
            through = args.output if args.to in POINTING else folder
            result = convert_to_coco(args.format, args.source, through, categories=args.categories)
            source, notes = result.path, result.notes
            if args.to in POINTING:
                source = result.path.replace(result.path.with_name(THROUGH_FILE))
        notes = (*notes, *convert_from_coco(args.to, source, args.output))
    _print_notes(notes)
    print(f"written: {args.output}")
    return 0


def run_browse(argv: list[str]) -> int:
    """Write one HTML page to look through a data set."""
    parser = command_parser("browse", "Write one HTML page to look through a data set, without a server.")
    parser.add_argument("dataset", help="COCO keypoint file")
    parser.add_argument("--output", default="browse.html", help="the page to write")
    parser.add_argument("--predictions", help="COCO keypoint results, or predictions.json of eval")
    parser.add_argument(
        "--doctor",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="examine the data set first, and show what was found at each image",
    )
    parser.add_argument(
        "--thumbnail_px", type=count, default=256, help="longer side of the thumbnails, pixels"
    )
    args = parser.parse_args(argv)
    from keypoint_detection.browse import write_page
    from keypoint_detection.doctor import examine

    findings = examine([args.dataset]).findings if args.doctor else ()
    page = write_page(
        args.dataset,
        args.output,
        predictions=args.predictions,
        findings=findings,
        thumbnail_px=args.thumbnail_px,
    )
    print(f"written: {page}")
    return 0


def run_resize(argv: list[str]) -> int:
    """Write the images of a data set in another size, with their labels."""
    parser = command_parser("resize", "Write the images of a data set in another size, with their labels.")
    parser.add_argument("dataset", help="COCO keypoint file")
    parser.add_argument("--size", type=size, required=True, help="HxW in pixels, such as 512x512")
    parser.add_argument("--output", help="folder; default: dataset_512x512 beside the folder dataset")
    parser.add_argument("--letterbox", action="store_true", help="keep the aspect ratio; fill up with grey")
    args = parser.parse_args(argv)
    from keypoint_detection.resize import resize_dataset

    print(f"written: {resize_dataset(args.dataset, args.size, args.output, letterbox=args.letterbox)}")
    return 0


def run_crop(argv: list[str]) -> int:
    """Write one image per labelled instance."""
    parser = command_parser("crop", "Write one image per labelled instance, cut out around its box.")
    parser.add_argument("dataset", help="COCO keypoint file")
    parser.add_argument("--output", help="folder; default: dataset_crops beside the folder dataset")
    parser.add_argument("--padding", type=float, default=1.25, help="enlargement of the boxes, as a factor")
    parser.add_argument("--size", type=size, help="HxW in pixels of every crop; default: as they are")
    args = parser.parse_args(argv)
    from keypoint_detection.crop import crop_dataset

    print(f"written: {crop_dataset(args.dataset, args.output, padding=args.padding, size_hw=args.size)}")
    return 0


def run_split(argv: list[str]) -> int:
    """Split a data set into parts or folds."""
    parser = command_parser("split", "Split a data set into parts or folds; images stay where they are.")
    parser.add_argument("dataset", help="COCO keypoint file")
    parser.add_argument("--output", help="folder for train.json, ...; default: that of the file")
    parser.add_argument(
        "--ratios",
        nargs="+",
        type=share,
        help="shares of training, validation and, if you like, test; 1 together; default: 0.8 0.2",
    )
    parser.add_argument("--folds", type=count, help="write this many folds instead")
    parser.add_argument(
        "--group_by", help="field of the images (such as video) or folder: never on both sides"
    )
    parser.add_argument("--seed", type=count_or_none, default=0, help="seed of the split")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    args = parser.parse_args(argv)
    from keypoint_detection.split_dataset import counts_table, split_dataset

    if args.folds is not None and args.ratios is not None:
        parser.error("argument --folds: not allowed with --ratios, as folds are of equal size")
    parts = split_dataset(
        args.dataset,
        args.output,
        ratios=args.ratios or (0.8, 0.2),
        folds=args.folds,
        group_by=args.group_by,
        seed=args.seed,
        overwrite=args.overwrite,
    )
    print(counts_table(parts))
    return 0


def run_subset(argv: list[str]) -> int:
    """Write a part of a data set."""
    parser = command_parser("subset", "Write a part of a COCO file; images stay where they are.")
    parser.add_argument("dataset", help="COCO keypoint file")
    parser.add_argument("--output", required=True, help="COCO file to write")
    parser.add_argument("--n", type=count, help="number of images to draw at random")
    parser.add_argument("--ids", nargs="+", type=int, help="or the ids of the images to take")
    parser.add_argument("--keypoints", nargs="+", help="names of the keypoints to keep")
    parser.add_argument("--categories", nargs="+", help="names of the categories to keep")
    parser.add_argument("--seed", type=count_or_none, default=0, help="seed of the draw")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    args = parser.parse_args(argv)
    from keypoint_detection.subset_dataset import subset_dataset

    written = subset_dataset(
        args.dataset,
        args.output,
        n=args.n,
        ids=args.ids,
        keypoints=args.keypoints,
        categories=args.categories,
        seed=args.seed,
        overwrite=args.overwrite,
    )
    print(f"written: {written}")
    return 0


def run_merge(argv: list[str]) -> int:
    """Merge data sets into one file."""
    parser = command_parser("merge", "Merge COCO files into one; images stay where they are.")
    parser.add_argument("datasets", nargs="+", help="COCO keypoint files")
    parser.add_argument("--output", required=True, help="COCO file to write")
    parser.add_argument(
        "--union",
        action="store_true",
        help="let categories of one name have different keypoints; those that one lacks are absent there",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    args = parser.parse_args(argv)
    from keypoint_detection.merge import merge_datasets

    merged = merge_datasets(args.datasets, args.output, union=args.union, overwrite=args.overwrite)
    print(f"written: {merged}")
    return 0


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")
