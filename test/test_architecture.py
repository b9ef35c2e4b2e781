"""The walls of the house: imports point down only, without a cycle; heavy libraries stay in their files."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keypoint_detection"

# The longest matching prefix gives the layer; a module that matches none fails the test.
LAYERS = {
    "records": 0,
    "geometry": 0,
    "registry": 0,
    "files": 0,
    "data.channels": 1,
    "data.coco_parser": 1,
    "data.coco_results": 1,
    "data.coco_targets": 1,
    "data.detections": 1,
    "data.formats": 1,
    "data.groups": 1,
    "data.label_warp": 1,
    "data.keypoint_choice": 1,
    "data.repeated_labels": 1,
    "data.splits": 1,
    "data.synthetic": 1,
    "data.symmetry": 1,
    "utils.heatmap": 1,
    "utils.colours": 1,
    "metrics": 1,
    "models.losses": 1,
    "models.schedules": 1,
    "models.optimization": 3,
    "models.point_losses": 1,
    "data.imageloader": 2,
    "data.image_warp": 2,
    "data.image_cache": 2,
    "data.augmentations": 2,
    "data.batch_buffers": 2,
    "data.coco_dataset": 2,
    "data.instance_lengths": 2,
    "data.video": 2,
    "data.unlabeled_dataset": 2,
    "data.datamodule": 2,
    "data.instance_crops": 2,
    "models.backbones": 2,
    "models.scores": 3,
    "models.inference": 3,
    "models.detector": 3,
    "models.flip_test": 3,
    "models.tiling": 3,
    "models.attention": 3,
    "models.heads": 3,
    "models.transfer": 3,
    "models.feature_cache": 3,
    "gaze.people": 1,
    "gaze.read": 1,
    "gaze.safe_pickle": 1,
    "visibility.factors": 1,
    "visibility.keypoint_points": 2,
    "visibility.predict_visibility": 4,
    "visibility.occlusion_scores": 4,
    "visibility.occlusion_table": 4,
    "visibility.occlusion_comparison": 5,
    "visibility.network": 3,
    "visibility.classifier": 3,
    "visibility.load_classifier": 4,
    "visibility.evaluate": 4,
    "visibility.dense_map": 4,
    "visibility.distance": 4,
    "visibility.figures": 4,
    "visibility.pictures": 4,
    "visibility.report": 4,
    "visibility.compare": 4,
    "visibility.points": 1,
    "visibility.pyramid": 2,
    "visibility.patches": 2,
    "visibility.patch_benchmark": 4,
    "visibility.sampling": 1,
    "visibility.scenes": 1,
    "visibility.synthetic": 1,
    "visibility.make_dataset": 4,
    "visibility.train": 5,
    "visibility.evaluate_run": 5,
    "visibility.folds_file": 5,
    "visibility.compare_runs": 5,
    "visibility.cross_validation": 5,
    "visibility.predict_scenes": 5,
    "visibility.demo": 5,
    "visibility.variants": 5,
    "gaze.synthetic": 1,
    "gaze.samples": 2,
    "gaze.augmentation": 2,
    "gaze.people_data": 2,
    "gaze.positions": 3,
    "gaze.attention": 3,
    "gaze.encoders": 3,
    "gaze.encoder_trunks": 3,
    "gaze.head_attention": 3,
    "gaze.gaze_frame": 3,
    "gaze.conditioner": 3,
    "gaze.in_out_head": 3,
    "gaze.denoiser": 3,
    "gaze.direct_decoder": 3,
    "gaze.named_groups": 3,
    "gaze.network_presets": 3,
    "gaze.noise_schedule": 1,
    "gaze.sampling": 1,
    "gaze.modes": 1,
    "gaze.gaze_losses": 1,
    "gaze.gaze_targets": 1,
    "gaze.decoders": 3,
    "gaze.follower": 3,
    "gaze.load_follower": 4,
    "gaze.gaze_prediction": 4,
    "gaze.gaze_baselines": 4,
    "gaze.evaluate": 4,
    "gaze.overlays": 4,
    "gaze.figures": 4,
    "gaze.report": 4,
    "gaze.inference": 4,
    "gaze.head_boxes": 4,
    "gaze.predict": 4,
    "gaze.export": 4,
    "gaze.target_shares": 4,
    "gaze.train": 5,
    "gaze.demo": 5,
    "utils.visualization": 4,
    "utils.load_checkpoints": 4,
    "utils.init_weights": 4,
    "callbacks": 4,
    "predict": 4,
    "resize": 4,
    "crop": 4,
    "split_dataset": 4,
    "subset_dataset": 4,
    "merge": 4,
    "dataset_files": 4,
    "evaluate": 4,
    "score_sheet": 4,
    "metric_contract": 4,
    "compare": 4,
    "fold_scores": 4,
    "convert": 4,
    "evaluation": 4,
    "doctor": 4,
    "score_settings": 4,
    "score_benchmark": 4,
    "loader_benchmark": 4,
    "step_profile": 4,
    "benchmark": 4,
    "backbone_table": 4,
    "backbone_benchmark": 4,
    "browse": 4,
    "checkpoint_benchmark": 4,
    "explain": 4,
    "figures": 4,
    "picture_samples": 4,
    "html_page": 4,
    "overlay_video": 4,
    "report": 4,
    "train": 5,
    "commands": 5,
    "command_flags": 5,
    "demo": 5,
    "__main__": 5,
    "": 5,
}
PACKAGE_MARKERS = {"data", "utils", "models", "visibility", "gaze"}

# Each of these libraries is imported in as few files as possible.
HOMES = {
    "albumentations": {"loader_benchmark_plain"},
    "timm": {"models.backbones.timm_encoder", "models.backbones.vit"},
    "wandb": {"utils.load_checkpoints"},
    "matplotlib": {"figures", "visibility.figures"},
    "av": {"data.video", "overlay_video"},
    "optuna": {"train.sweep_study"},
    "diffusers": {"gaze.sampling_diffusers"},
}


def module_name(path: Path) -> str:
    """Return the dotted name below the package, `""` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer(module: str) -> int:
    prefixes = [
        prefix
        for prefix in LAYERS
        if prefix and (module == prefix or module.startswith((prefix + ".", prefix + "_")))
    ]
    if prefixes:
        return LAYERS[max(prefixes, key=len)]
    if module in PACKAGE_MARKERS:
        return 0
    assert module == "", f"module {module} has no layer: add it to LAYERS and to the README"
    return LAYERS[""]


def imported(path: Path) -> set[str]:
    """Return every absolute module that a file imports, in functions too, but not under TYPE_CHECKING."""
    found: set[str] = set()
    skipped: set[int] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(id(child) for statement in node.body for child in ast.walk(statement))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def internal_imports(module: str) -> set[str]:
    names = {
        name.removeprefix("keypoint_detection").removeprefix(".")
        for name in imported(MODULES[module])
        if name.split(".")[0] == "keypoint_detection"
    }
    return {name for name in names if name in MODULES and name not in PACKAGE_MARKERS} - {module}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for target in internal_imports(module):
        if target == "":
            continue
        assert layer(target) <= layer(module), (
            f"{module} (L{layer(module)}) imports {target} (L{layer(target)})"
        )


def test_no_import_cycle() -> None:
    graph = {module: internal_imports(module) - {""} for module in MODULES if module}
    while graph:
        leaves = {module for module, targets in graph.items() if not targets & graph.keys()}
        assert leaves, f"import cycle among {sorted(graph)}"
        graph = {module: targets for module, targets in graph.items() if module not in leaves}


@pytest.mark.parametrize("library", HOMES)
def test_library_stays_in_its_files(library: str) -> None:
    users = {
        module
        for module, path in MODULES.items()
        if library in {name.split(".")[0] for name in imported(path)}
    }
    assert users <= HOMES[library]


@pytest.mark.parametrize(("above", "below"), [("data", "models"), ("metrics", "models"), ("models", "train")])
def test_named_walls(above: str, below: str) -> None:
    for module in MODULES:
        if module.startswith(above):
            assert not [target for target in internal_imports(module) if target.split(".")[0] == below], (
                module
            )


def test_every_package_folder_is_a_package() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_tests_mirror_the_package() -> None:
    tests = [path for path in (ROOT / "test").rglob("test_*.py") if "reference" not in path.parts]
    free = {"test_architecture", "test_packaging", "test_readme", "test_learning"}
    for path in tests:
        subject = path.relative_to(ROOT / "test").with_name(path.name.removeprefix("test_"))
        folder = PACKAGE / subject.with_suffix("")
        # test_<module>_<facet>.py holds a part of a module's tests that is a subject of its own
        shorter = [subject.stem.rsplit("_", cut)[0] for cut in range(1, subject.stem.count("_") + 1)]
        assert (
            path.stem in free
            or (PACKAGE / subject).is_file()
            or folder.is_dir()
            or any((PACKAGE / subject.with_name(f"{name}.py")).is_file() for name in shorter)
            or subject.stem == "backbones"
        ), path


def test_no_two_tests_have_one_file_name() -> None:
    names = Counter(path.name for path in (ROOT / "test").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]  # pytest imports them by name alone


def test_no_layer_is_written_twice() -> None:
    for module, number in LAYERS.items():
        others = [prefix for prefix in LAYERS if prefix and module.startswith((f"{prefix}.", f"{prefix}_"))]
        assert not others or LAYERS[max(others, key=len)] != number, f"{module} follows from {others}"


def test_scripts_are_thin() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 80, path
