from pathlib import Path

import pytest
from point_data import make_points, tiny_config

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.network import MultiMagnificationNet
from keypoint_detection.visibility.train_data import open_dataset
from keypoint_detection.visibility.variants import VARIANTS, compare_variants

PUBLISHED = {
    "concat": 4_460_801,
    "concat+MLP": 4_542_593,
    "shared": 892_673,
    "shared+MLP": 974_465,
    "aligned": 1_649_409,
    "aligned+MLP": 1_666_177,
    "aligned+shared": 1_039_617,
    "aligned+shared+MLP": 1_056_385,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_names_are_those_of_the_published_table(name: str) -> None:
    network = MultiMagnificationNet(5, 4, 128, **VARIANTS[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[name]
    assert set(VARIANTS) == set(PUBLISHED)


def test_variants_are_compared_on_the_same_folds(tmp_path: Path) -> None:
    points = make_points(tmp_path)
    chosen = {name: VARIANTS[name] for name in ("shared", "aligned+shared+MLP")}
    config = tiny_config(points, tmp_path, max_epochs=1)
    comparison = compare_variants(
        config,
        open_dataset(points),
        tmp_path / "variants",
        folds=2,
        resampling=Resampling(n_resamples=50),
        variants=chosen,
    )
    assert comparison.groups == tuple(chosen)
    assert comparison.folds == ("fold1", "fold2")
    assert (tmp_path / "variants" / "comparison.png").is_file()
    assert (tmp_path / "variants" / "aligned-shared-MLP" / "folds.json").is_file()
