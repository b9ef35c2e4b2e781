import platform
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from keypoint_detection import backbone_benchmark as benchmark
from keypoint_detection.backbone_benchmark import BackboneTiming, Conditions
from keypoint_detection.backbone_table import HeatmapNetwork
from keypoint_detection.models.backbones.backbone_factory import list_backbones

UNET_PARAMETERS = 112_449


@pytest.fixture
def conditions() -> Conditions:
    return Conditions((32, 32), batch_size=2, seconds=0.0)


def columns(text: str) -> list[list[str]]:
    """Return the cells of each line of the Markdown table, the line of dashes included."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_multiply_adds_of_one_convolution() -> None:
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    assert benchmark.count_macs(convolution, torch.rand(1, 3, 10, 12)) == 10 * 12 * 8 * 3 * 9


def test_attention_counts_its_two_products() -> None:
    class Attention(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    tokens = torch.empty(1, 2, 7, 5, device="meta")  # 2 heads of 7 tokens of 5 numbers
    assert benchmark.count_macs(Attention(), tokens) == 2 * 2 * 7 * 7 * 5


def test_size_of_unet_by_hand() -> None:
    parameters, macs = benchmark.network_size("Unet", (30, 31))  # padded to 32x32
    per_pixel = 9 * (3 * 32 + 64 * 32 + 32)  # stem, last upsampling block, head
    half = 9 * (32 * 32 + 64 * 32) * 256
    quarter = 9 * 7 * 32 * 32 * 64
    assert parameters == UNET_PARAMETERS
    assert macs == per_pixel * 1024 - 9 * 32 * (1024 - 30 * 31) + half + quarter  # the head sees the crop


def test_measure_unet_in_this_process(conditions: Conditions) -> None:
    timing = benchmark.measure("Unet", conditions)
    assert timing.parameters == UNET_PARAMETERS
    assert len(timing.forward_seconds) == len(timing.step_seconds) == benchmark.LEAST_RUNS
    assert min(*timing.forward_seconds, *timing.step_seconds) > 0


def test_a_fresh_process_measures_and_the_reference_is_added(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    apart = benchmark.measure_apart

    def breaking(name: str, conditions: Conditions) -> BackboneTiming:
        # The second backbone is one that its process does not know.
        return apart(name if name == "Unet" else "Nothing", conditions)

    monkeypatch.setattr(benchmark, "measure_apart", breaking)
    unet, broken = benchmark.benchmark_backbones(["ConvNeXtUnet"], conditions)
    assert (unet.name, unet.parameters, unet.failure) == ("Unet", UNET_PARAMETERS, "")
    assert 0 < unet.peak_bytes < 200e6
    assert broken.failure.startswith("ValueError: unknown backbone 'Nothing'")
    assert "[2/2] ConvNeXtUnet ... failed: ValueError" in capsys.readouterr().err
    rows = columns(benchmark.markdown_table([unet, broken], conditions))
    assert rows[2][0] == "Unet"
    assert rows[2][4] == rows[2][6] == "1.00"
    assert rows[3][-1] == f"failed: {broken.failure}"


@pytest.mark.parametrize(
    ("returncode", "stderr", "reason"),
    [
        (-signal.SIGKILL, "", "ended by SIGKILL (out of memory?)"),
        (-signal.SIGSEGV, "", "ended by SIGSEGV"),
        (1, "Traceback\nImportError: no\n", "ImportError: no"),
        (3, "", "exit status 3"),
    ],
)
def test_a_process_that_dies_is_a_line(
    returncode: int, stderr: str, reason: str, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = SimpleNamespace(returncode=returncode, stdout="", stderr=stderr)
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *_, **__: done)
    assert benchmark.measure_apart("Unet", conditions) == BackboneTiming("Unet", failure=reason)


def test_markdown_is_well_formed_and_compares_with_unet(conditions: Conditions) -> None:
    unet = BackboneTiming("Unet", UNET_PARAMETERS, 31_250_000, [0.1, 0.2, 0.9], [1.0, 1.0, 4.0], 50_000_000)
    other = BackboneTiming("Other", 2_000_000, 10**9, [0.5], [45.0], 900_000_000)
    broken = BackboneTiming("Broken", failure="RuntimeError: a | b")
    rows = columns(benchmark.markdown_table([other, unet, broken], conditions))
    assert {len(row) for row in rows} == {len(benchmark.HEADINGS)}
    assert rows[2] == ["Other", "2.000", "1.000", "500.0", "2.50", "45000.0", "45.00", "900", "1 + 1"]
    assert rows[3] == ["Unet", "0.112", "0.031", "200.0", "1.00", "1000.0", "1.00", "50", "3 + 3"]
    assert rows[4] == ["Broken", *["-"] * 7, "failed: RuntimeError: a / b"]


def test_without_the_reference_there_are_no_ratios(conditions: Conditions) -> None:
    other = BackboneTiming("Other", 2_000_000, 10**9, [0.5], [0.5], 900_000_000)
    failed = BackboneTiming("Unet", failure="none")
    for timings in ([other], [failed, other]):
        assert columns(benchmark.markdown_table(timings, conditions))[-1][3:7] == ["500.0", "-", "500.0", "-"]
    assert benchmark.markdown_table([failed], conditions).endswith(" failed: none |\n")


def test_conditions_are_the_first_lines(conditions: Conditions) -> None:
    text = benchmark.markdown_table([BackboneTiming("Unet", failure="none")], conditions)
    first, second, third, fourth, *_ = text.splitlines()
    assert f"torch {torch.__version__}, {torch.get_num_threads()} threads, " in first
    assert first.split(", ", 2)[2] == benchmark.processor_name() != ""
    assert "32x32" in second
    assert "batch 2" in third
    assert "medians of 3 to 20 runs" in fourth


def test_names_are_read_and_checked() -> None:
    assert benchmark.chosen_backbones("all") == list_backbones()
    assert benchmark.chosen_backbones("Unet, ConvNeXtUnet Unet") == ["Unet", "ConvNeXtUnet"]
    with pytest.raises(ValueError, match=r"unknown backbone 'unett'.*Did you mean 'Unet'\?"):
        benchmark.chosen_backbones("Unet,unett")
    with pytest.raises(ValueError, match="got nothing"):
        benchmark.chosen_backbones(" , ")


@pytest.mark.parametrize(
    ("each", "seconds", "expected"),
    [(0.1, 100.0, 20), (1.0, 3.0, 3), (1.0, 3.5, 4), (10.0, 3.0, 3), (31.0, 3.0, 1)],
)
def test_runs_fill_the_time(
    each: float, seconds: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_seconds", lambda work, device: work())
    times = benchmark.timed_runs(lambda: each, Conditions((8, 8), seconds=seconds))
    assert times == [each] * expected


def test_a_step_trains_every_weight() -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork("Unet")
    before = [parameter.detach().clone() for parameter in network.parameters()]
    benchmark.training_step(network, torch.rand(2, 3, 8, 9))()
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="others tell no present size")
def test_the_peak_remembers_what_was_freed() -> None:
    before = benchmark.memory_bytes("VmRSS", "cpu")
    size = benchmark.memory_bytes("VmHWM", "cpu") - before + 50_000_000
    np.ones(size, dtype=np.uint8)
    # Linux counts pages late and Python reuses some.
    assert benchmark.memory_bytes("VmHWM", "cpu") - before >= 0.9 * size
    assert benchmark.memory_bytes("VmRSS", "cpu") - before < 0.5 * size


def test_other_systems_are_asked_for_their_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_lines", lambda path: [])
    assert benchmark.memory_bytes("VmRSS", "cpu") > 50_000_000  # PyTorch alone is larger
    assert benchmark.processor_name() == (platform.processor() or platform.machine())
