import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from reference.torchrun import children, finish, start
from torch import nn

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.models.backbones.backbone_factory import BACKBONES, backbone_class, list_backbones
from keypoint_detection.models.backbones.timm_encoder import BatchNormAct
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.devices import SyncedBatchNorm, device_arguments, device_plugins

SCRIPTS = Path(__file__).parents[2] / "scripts"
TWO = ["--devices", "2", "--strategy", "ddp"]
SMALL = {
    "ConvNeXtUnet": {"encoder": "convnext_atto"},
    "CPM": {"n_stages": 2},
    "HRNet": {"encoder": "hrnet_w18_small"},
    "Hourglass": {"n_hourglasses": 2, "n_hg_blocks": 2},
    "MaxVitUnet": {"encoder": "maxvit_rmlp_pico_rw_256"},
    "ResNetDeconv": {"encoder": "resnet10t", "n_channels": 32},
    "ResNetUnet": {"encoder": "resnet10t"},
    "TimmUnet": {"encoder": "resnet10t"},
    "ViT": {"encoder": "ViT-Ti_16"},
}
FAMILIES = [name for name in list_backbones() if BACKBONES[name] is backbone_class(name)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the flags of eight training and five validation images: no multiple of two processes."""
    root = tmp_path_factory.mktemp("data")
    files = [
        make_dataset("boxes", root / name, n, (32, 32), seed=n) for name, n in (("train", 8), ("val", 5))
    ]
    return ["--json_dataset_path", str(files[0]), "--json_validation_dataset_path", str(files[1])]


def flags(data: list[str], root: Path, name: str, **options: object) -> list[str]:
    # Without batch norm: its statistics are those of the images of one process.
    chosen = {
        "keypoint_channel_configuration": "flap_left; flap_right",
        "backbone_type": "DilatedCnn",
        "n_channels": 8,
        "default_root_dir": root,
        "run_name": name,
        "max_epochs": 1,
        "learning_rate": 0.01,
        "ap_epoch_freq": 1,
        "accelerator": "cpu",
        "num_workers": 0,
        "enable_progress_bar": "false",
        **options,
    }
    return data + [text for key, value in chosen.items() for text in (f"--{key}", str(value))]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def one_and_two(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return runs of one process and of two with the same images per step: 4, and 2 in each."""
    root = tmp_path_factory.mktemp("runs")
    process = start([*flags(data, root, "two", batch_size=2), *TWO], torchrun=True)
    single = start(flags(data, root, "one", batch_size=4), torchrun=False)
    output, alone = finish(process, 300), finish(single, 300)
    assert process.returncode == 0, output
    assert output.count("validation, last weights") == 1  # one process speaks
    assert alone.count("validation, last weights") == 1
    return root / "one", root / "two"


def assert_same_numbers(one: Path, two: Path, prefix: str, at_least: int) -> None:
    """Compare the numbers of two runs whose names have the prefix, once per line that they are in."""
    lines = list(zip(rows(one), rows(two), strict=True))
    pairs = [(a[name], b[name]) for a, b in lines for name in a if name.startswith(prefix) and a[name]]
    assert len(pairs) >= at_least
    assert [float(b) for _, b in pairs] == pytest.approx([float(a) for a, _ in pairs], rel=1e-4, abs=1e-6)


def test_two_processes_write_each_file_once(one_and_two: tuple[Path, Path]) -> None:
    one, two = (sorted(str(path.relative_to(run)) for path in run.rglob("*.*")) for run in one_and_two)
    assert one == two
    assert {"checkpoints/last.ckpt", "checkpoints/best.ckpt", "config.yaml", "metrics.csv"} <= set(two)
    assert len([name for name in two if name.endswith(".csv")]) == 1


@pytest.mark.parametrize(
    ("prefix", "at_least"),
    [
        ("validation/map", 1),
        ("validation/mean_error_px", 1),
        ("validation/flap_left/", 6),
        ("learning_rate", 1),
    ],
)
def test_two_processes_give_the_scores_of_one(
    prefix: str, at_least: int, one_and_two: tuple[Path, Path]
) -> None:
    assert_same_numbers(*one_and_two, prefix, at_least)


@pytest.mark.parametrize("prefix", ["validation/loss", "validation/gt_loss", "train/loss/"])
def test_two_processes_give_the_losses_of_one(prefix: str, one_and_two: tuple[Path, Path]) -> None:
    assert_same_numbers(*one_and_two, prefix, 2)


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed(data: list[str], tmp_path: Path) -> None:
    last = tmp_path / "parts/checkpoints/last.ckpt"
    # At a constant rate the first epoch of two is what an only epoch would be.
    for name, options in (
        ("whole", {"max_epochs": 2}),
        ("parts", {"max_epochs": 1}),
        ("parts", {"max_epochs": 2, "ckpt_path": last}),
    ):
        settings = {"batch_size": 2, "decay_type": "constant", "warmup": 0, **options}
        process = start([*flags(data, tmp_path, name, **settings), *TWO], torchrun=True)
        output = finish(process, 120)
        assert process.returncode == 0, output
    whole, parts = (
        torch.load(path, weights_only=True) for path in (tmp_path / "whole/checkpoints/last.ckpt", last)
    )
    assert (parts["epoch"], parts["global_step"]) == (whole["epoch"], whole["global_step"]) == (1, 4)
    for name, value in whole["state_dict"].items():
        assert torch.equal(parts["state_dict"][name], value), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torchrun", "victim"),
    [(True, "first"), (True, "second"), (False, "first"), (False, "second")],
    ids=["torchrun-first", "torchrun-second", "lightning-first", "lightning-second"],
)
def test_a_killed_process_ends_the_run(torchrun: bool, victim: str, data: list[str], tmp_path: Path) -> None:
    endless = flags(data, tmp_path, "run", batch_size=2, max_epochs=100000, check_val_every_n_epoch=1000)
    process = start([*endless, *TWO], torchrun=torchrun)
    deadline = time.monotonic() + 90
    while not (tmp_path / "run/checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    everyone = children(process.pid) if torchrun else [process.pid, *children(process.pid)]
    assert len(everyone) == 2, finish(process, 1)
    os.kill(everyone[victim == "second"], signal.SIGKILL)
    output = finish(process, 60)
    assert process.returncode not in (0, None), output
    wait_until_gone(everyone)


def wait_until_gone(pids: list[int], seconds: float = 15) -> None:
    """Fail when one of the processes still computes; a dead one that nobody has waited for is gone."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(alive(pid) for pid in pids):
        time.sleep(0.1)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


FAILS_ALONE = """
import os, sys
from keypoint_detection import callbacks_devices
from keypoint_detection.__main__ import main
from keypoint_detection.models.detector import KeypointDetector

callbacks_devices.EndTogether.__init__.__defaults__ = (3.0,)
step = KeypointDetector.training_step

def fail(self, batch, batch_idx):
    if self.current_epoch == 1 and os.environ["LOCAL_RANK"] == sys.argv[1]:
        raise ValueError("this image cannot be read")
    return step(self, batch, batch_idx)

KeypointDetector.training_step = fail
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_fails_alone_ends_the_run_with_its_error(
    rank: str, data: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "keypoint_detection_fails.py"
    program.write_text(FAILS_ALONE)
    arguments = [rank, *flags(data, tmp_path, "run", batch_size=2, max_epochs=9), *TWO]
    process = start(arguments, torchrun=True, program=[str(program)])
    output = finish(process, 90)
    assert process.returncode == 1, output
    assert "error: this image cannot be read" in output
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"] <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_no_parameter_of_a_detector_is_unused(name: str) -> None:
    torch.manual_seed(0)
    detector = KeypointDetector([["a"], ["b"]], name, SMALL.get(name))
    stages = detector.forward_stages(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    torch.stack([output.square().sum() for output in stages]).sum().backward()
    unused = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert unused == []


def test_the_flags_reach_the_trainer() -> None:
    config = TrainConfig(json_dataset_path="x", devices="2", num_nodes=3, strategy="ddp", accelerator="gpu")
    expected = {"accelerator": "gpu", "devices": 2, "num_nodes": 3, "strategy": "ddp"}
    assert device_arguments(config) == expected
    assert device_plugins(config) == []
    (plugin,) = device_plugins(TrainConfig(json_dataset_path="x", sync_batchnorm=True))
    assert isinstance(plugin, SyncedBatchNorm)


def test_synced_batch_norm_keeps_what_follows_it_and_what_is_learned() -> None:
    torch.manual_seed(0)
    detector = KeypointDetector([["a"]], "ResNetUnet", {"encoder": "resnet10t"}).eval()
    kinds = [type(module) for module in detector.modules()]
    assert BatchNormAct in kinds or nn.ReLU in kinds
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = detector(images)
    names = list(detector.state_dict())
    plugin = SyncedBatchNorm()
    plugin.apply(detector)
    synced = [module for module in detector.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(synced) == sum(issubclass(kind, nn.BatchNorm2d) for kind in kinds) > 10
    assert list(detector.state_dict()) == names
    assert torch.equal(detector(images), before)
    with torch.no_grad():
        synced[3].running_mean.add_(1.0)  # pyright: ignore[reportOptionalMemberAccess]
    changed = detector(images)
    assert not torch.equal(changed, before)
    plugin.revert(detector)
    assert [type(module) for module in detector.modules()] == kinds
    assert torch.equal(detector(images), changed)


@pytest.mark.parametrize("name", ["train_torchrun.sh", "train_slurm.sh"])
def test_scripts_pass_their_flags_on(name: str, tmp_path: Path) -> None:
    """Run a script with a stand-in for `python` and `srun` that prints how it is called."""
    script = SCRIPTS / name
    assert len(script.read_text().splitlines()) <= 80
    for program in ("python", "srun"):
        (tmp_path / program).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / program).chmod(0o755)
    environment = {
        **{"PATH": f"{tmp_path}:/usr/bin:/bin", "GPUS": "4", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"},
        **{"SLURM_NTASKS_PER_NODE": "4", "NODES": "2", "ROOT": str(tmp_path)},
    }

    def call() -> list[str]:
        given = ["bash", str(script), "--json_dataset_path", "a b.json"]
        return subprocess.run(
            given, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    words = call()
    at = words.index("keypoint_detection")
    assert words[at : at + 2] == ["keypoint_detection", "train"]
    assert words[words.index("--devices") + 1] == "4"
    assert words[words.index("--num_nodes") + 1] == "2"
    assert words[-3:] == ["--json_dataset_path", "a", "b.json"]
    if name == "train_slurm.sh":
        assert words[words.index("--ckpt_path") + 1] == "last"
        assert words[words.index("--run_name") + 1] == "job-7"


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (138, True)])
def test_a_job_that_was_warned_is_queued_again(code: int, requeued: bool, tmp_path: Path) -> None:
    for program, text in {"srun": f"exit {code}", "scontrol": f'echo "$@" > {tmp_path}/asked'}.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1"}
    ended = subprocess.run(
        ["bash", str(SCRIPTS / "train_slurm.sh")], env=environment, capture_output=True, check=False
    )
    assert ended.returncode == code, ended.stderr
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else None) == ("requeue 7\n" if requeued else None)
