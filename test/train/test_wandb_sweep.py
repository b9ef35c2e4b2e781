import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from configuration import small_config
from wandb.sdk.lib.config_util import save_config_file_from_dict

from keypoint_detection.train.cli import UsageError
from keypoint_detection.train.wandb_sweep import with_sweep_values


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets what an agent of wandb sets for a program."""

    def start(**values: object) -> None:
        path = tmp_path / "config-abc.yaml"
        save_config_file_from_dict(str(path), {name: {"value": value} for name, value in values.items()})
        assert "wandb_version" in yaml.safe_load(path.read_text())
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(path))
        monkeypatch.setenv("WANDB_SWEEP_ID", "abc")

    return start


def test_without_a_sweep_nothing_changes(tmp_path: Path) -> None:
    config = small_config(tmp_path / "a.json", tmp_path)
    assert with_sweep_values(config) is config


def test_the_values_of_the_sweep_win_over_the_flags(tmp_path: Path, agent) -> None:
    agent(
        learning_rate=1e-05,
        augment_train=True,
        maximal_gt_keypoint_pixel_distances=[1, 8],
        n_channels=16,
        max_epochs=None,
        max_steps=7,
    )
    config = small_config(tmp_path / "a.json", tmp_path, heatmap_sigma=3.5)
    found = with_sweep_values(config)
    assert (found.learning_rate, found.augment_train, found.max_epochs) == (1e-5, True, None)
    assert found.maximal_gt_keypoint_pixel_distances == [1.0, 8.0]
    assert found.backbone_options == {"n_channels": 16}
    assert found.trainer == {"enable_progress_bar": False, "max_steps": 7}
    assert found.heatmap_sigma == 3.5
    assert found.uses_wandb
    assert not config.uses_wandb


def test_a_parameter_that_is_no_flag_is_one_line(tmp_path: Path, agent) -> None:
    agent(learning_rat=0.1)
    with pytest.raises(UsageError, match=r"unknown argument --learning_rat.*Did you mean 'learning_rate'"):
        with_sweep_values(small_config(tmp_path / "a.json", tmp_path))


def test_a_run_that_a_function_of_an_agent_has_started_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(sweep_id="abc", config={"batch_size": 2, "my_note": "not a flag"})
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))
    config = small_config(tmp_path / "a.json", tmp_path)
    assert with_sweep_values(config).batch_size == 2
    run.sweep_id = None
    assert with_sweep_values(config).batch_size == 4


def test_an_agent_that_passes_flags_alone_turns_wandb_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    config = small_config(tmp_path / "a.json", tmp_path)
    found = with_sweep_values(config)
    assert found.uses_wandb
    assert found.model_copy(update={"logger": config.logger}) == config
