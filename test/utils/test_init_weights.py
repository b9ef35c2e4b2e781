"""Weights from files into networks: every round trip through a real file, compared bit by bit."""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import create_backbone
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.utils.init_weights import describe, init_weights, match_weights, read_weights


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def randomised(module: nn.Module) -> dict[str, Tensor]:
    """Return a state dict in which every number is another than in the module."""
    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.randn(t.shape, generator=generator) if t.is_floating_point() else torch.full_like(t, 9)
        for name, t in module.state_dict().items()
    }


def assert_loaded(module: nn.Module, loaded: Mapping[str, str], source: Mapping[str, Tensor]) -> None:
    here = module.state_dict()
    for name, found in loaded.items():
        assert torch.equal(here[name], source[found].to(here[name].dtype)), name


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "plain": lambda weights: weights,
    "lightning": lambda weights: {"state_dict": weights, "epoch": 3, "optimizer_states": [torch.ones(2)]},
    "model": lambda weights: {"model": weights, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda weights: {"model_state_dict": weights},
    "teacher": lambda weights: {"teacher": weights, "student": {"other": torch.ones(2)}},
    "two nests": lambda weights: {"model": {"state_dict": weights}},
    "DDP": lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
    "compiled": lambda weights: {f"_orig_mod.{name}": tensor for name, tensor in weights.items()},
    "DDP of compiled": lambda weights: {f"module._orig_mod.{name}": t for name, t in weights.items()},
    "compiled DDP": lambda weights: {"state_dict": {f"_orig_mod.module.{n}": t for n, t in weights.items()}},
    "parameters": lambda weights: {name: nn.Parameter(t, False) for name, t in weights.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("suffix", [".ckpt", ".pth"])
def test_weights_are_read_out_of_what_wraps_them(wrapper: str, suffix: str, tmp_path: Path) -> None:
    weights = randomised(network())
    path = tmp_path / f"x{suffix}"
    torch.save(WRAPPERS[wrapper](weights), path)
    read = read_weights(path)
    assert list(read) == list(weights)
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_a_compiled_part_and_a_part_called_module_keep_their_other_names(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"backbone._orig_mod.a.weight": torch.ones(2), "module.b": torch.ones(3)}, path)
    assert set(read_weights(path)) == {"backbone.a.weight", "module.b"}


def test_a_real_compiled_and_wrapped_network_is_read(tmp_path: Path) -> None:
    module = network()
    torch.save(nn.DataParallel(torch.compile(module)).state_dict(), tmp_path / "x.pt")  # pyright: ignore
    assert list(read_weights(tmp_path / "x.pt")) == list(module.state_dict())


def test_safetensors_round_trip(tmp_path: Path) -> None:
    module, weights = network(), randomised(network())
    save_file(weights, tmp_path / "x.safetensors")
    match = init_weights(module, tmp_path / "x.safetensors")
    assert match.loaded == {name: name for name in module.state_dict()}
    assert (match.mismatched, match.missing, match.unused) == ([], [], [])
    assert_loaded(module, match.loaded, weights)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file of weights at .*none\.pt: expected"):
        read_weights(tmp_path / "none.pt")


BROKEN = [b"", b"hello world", b"PK\x03\x04 broken zip", b"\x80\x02K*.", b"<html>404</html>", b"R", b"a: 1"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", BROKEN)
def test_an_unreadable_file_is_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\{suffix} (is not a readable|holds no tensors)") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_half_a_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(randomised(network()), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"x\.pt is not a readable file of weights"):
        read_weights(path)


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"a": 1, "b": "text"}, [1, 2], 3])
def test_a_file_without_tensors_is_one_line(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds no tensors") as caught:
        read_weights(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


class Malicious:
    """Write a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (os.system, (f"touch {self.path}",))


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": randomised(network()), "x": Malicious(tmp_path / "ran")}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"holds code \(.*system\), refused.*weights_only=True") as caught:
        read_weights(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "x.pt", weights_only=False)  # the file would indeed have run it
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("extra", [argparse.Namespace(lr=0.1), nn.Linear(1, 1)])
def test_objects_beside_the_weights_are_refused_with_the_way_out(extra: object, tmp_path: Path) -> None:
    torch.save({"model": randomised(network()), "args": extra}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"{type(extra).__name__}\), refused.*save only its state dict"):
        read_weights(tmp_path / "x.pt")


def test_numpy_files_point_to_the_flag_for_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    with pytest.raises(ValueError, match=r"x\.npz .*--pretrained_dir"):
        read_weights(tmp_path / "x.npz")


def detector(n_channels: int, **options: object) -> KeypointDetector:
    return KeypointDetector([[f"k{i}"] for i in range(n_channels)], "Unet", {"n_channels": 8, **options})


@pytest.mark.parametrize("prefix", ["", "model.", "net.student."])
def test_a_detector_of_other_channels_gives_everything_but_the_head(prefix: str, tmp_path: Path) -> None:
    weights = randomised(detector(5))
    named = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save({"state_dict": named, "hyper_parameters": {}}, tmp_path / "x.ckpt")
    fresh = detector(3)
    head = {name: t.clone() for name, t in fresh.state_dict().items() if name.startswith("head.")}
    match = init_weights(fresh, tmp_path / "x.ckpt")
    assert match.loaded == {
        name: prefix + name for name in fresh.state_dict() if name.startswith("backbone.")
    }
    assert_loaded(fresh, match.loaded, named)
    assert [(name, here[0], there[0]) for name, here, there in match.mismatched] == [
        ("head.weight", 3, 5),
        ("head.bias", 3, 5),
    ]
    assert (match.missing, match.unused) == ([], [])
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in head.items())


@pytest.mark.parametrize("part", ["encoder", "backbone", "detector"])
def test_plain_timm_weights_fill_a_features_only_encoder(part: str, tmp_path: Path) -> None:
    plain = timm.create_model("convnext_atto", num_classes=7)
    weights = randomised(plain)
    torch.save({"model": weights}, tmp_path / "x.pth")
    whole = KeypointDetector([["a"]], "ConvNeXtUnet", {"encoder": "convnext_atto"})
    module = {"detector": whole, "backbone": whole.backbone, "encoder": whole.backbone.pretrained_part}[part]
    prefix = {"detector": "backbone.encoder.", "backbone": "encoder.", "encoder": ""}[part]
    match = init_weights(module, tmp_path / "x.pth")
    encoder = [name for name in module.state_dict() if name.startswith(prefix)]
    assert list(match.loaded) == encoder
    for name, found in match.loaded.items():
        first, _, rest = name.removeprefix(prefix).partition(".")
        assert found == f"{first.replace('_', '.')}.{rest}"
    assert_loaded(module, match.loaded, weights)
    assert match.unused == ["head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias"]
    assert not match.mismatched
    # and so the encoder computes what the plain network computes
    image = torch.randn(1, 3, 32, 32)
    plain.load_state_dict(weights)
    expected = plain.eval().forward_intermediates(image, intermediates_only=True)[-1]
    torch.testing.assert_close(whole.eval().backbone.pretrained_part(image)[-1], expected)


def test_a_features_only_encoder_fills_the_plain_network(tmp_path: Path) -> None:
    weights = randomised(KeypointDetector([["a"]], "ConvNeXtUnet", {"encoder": "convnext_atto"}))
    torch.save(weights, tmp_path / "x.pt")
    plain = timm.create_model("convnext_atto", num_classes=0)
    match = init_weights(plain, tmp_path / "x.pt")
    assert match.missing == ["head.norm.weight", "head.norm.bias"]
    assert match.loaded["stages.1.blocks.0.gamma"] == "backbone.encoder.stages_1.blocks.0.gamma"
    assert_loaded(plain, match.loaded, weights)


def test_a_backbone_alone_fills_the_backbone_of_a_detector(tmp_path: Path) -> None:
    weights = randomised(create_backbone("Unet", n_channels=8))
    torch.save(weights, tmp_path / "x.pt")
    fresh = detector(2)
    match = init_weights(fresh, tmp_path / "x.pt")
    assert match.loaded == {f"backbone.{name}": name for name in weights}
    assert match.missing == ["head.weight", "head.bias"]
    assert_loaded(fresh, match.loaded, weights)


def test_weights_are_cast_to_the_type_of_the_network(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in randomised(network()).items()}
    torch.save(half, tmp_path / "x.pt")
    module = network()
    match = init_weights(module, tmp_path / "x.pt")
    assert_loaded(module, match.loaded, half)
    assert module.state_dict()["0.weight"].dtype == torch.float32
    assert module.state_dict()["1.num_batches_tracked"].dtype == torch.int64


def test_nothing_fits_is_one_line_with_an_example_of_each_side(tmp_path: Path) -> None:
    torch.save({"bias": torch.ones(5), "deep.fc.weight": torch.ones(5, 6)}, tmp_path / "x.pt")
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    expected = r"no weight among its 2 tensors fits.*deep\.fc\.weight \[5, 6\].*0\.weight \[4, 3, 3, 3\]"
    with pytest.raises(ValueError, match=expected) as caught:
        init_weights(module, tmp_path / "x.pt")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("options", [{"n_channels": 6}, {"kernel_size": 5}])
def test_biases_norms_and_counters_alone_are_no_fit(options: dict[str, int], tmp_path: Path) -> None:
    other = KeypointDetector([["a"], ["b"]], "Unet", {"n_channels": 8, "n_resnet_blocks": 0, **options})
    weights = {name: t for name, t in randomised(other).items() if name != "head.weight"}
    torch.save(weights, tmp_path / "x.pt")
    fresh = detector(2, n_resnet_blocks=0)
    assert len(match_weights(weights, fresh.state_dict()).loaded) >= 6  # the bias of the head, counters
    with pytest.raises(ValueError, match="no weight among its"):
        init_weights(fresh, tmp_path / "x.pt")


def shaped(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def test_the_mapping_that_loads_most_numbers_wins() -> None:
    source = shaped(small__w=(2, 2), student__w=(3, 3), student__v=(3, 3), teacher__v=(3, 3))
    match = match_weights(source, shaped(w=(3, 3), v=(3, 3)))
    assert match.loaded == {"w": "student.w", "v": "student.v"}
    assert match.unused == ["small.w", "teacher.v"]


def test_of_equal_mappings_the_shortest_edit_wins() -> None:
    source = shaped(long_name__w=(3, 3), ab__w=(3, 3))
    assert match_weights(source, shaped(w=(3, 3))).loaded == {"w": "ab.w"}
    source |= shaped(w=(3, 3))
    assert match_weights(source, shaped(w=(3, 3))).loaded == {"w": "w"}
    target = shaped(encoder__w=(3, 3), backbone__encoder__w=(3, 3))
    assert match_weights(source, target).loaded == {"encoder.w": "w"}


def test_prefixes_deeper_than_three_parts_are_not_tried() -> None:
    target = shaped(w=(3, 3))
    assert match_weights(shaped(a__b__c__w=(3, 3)), target).loaded == {"w": "a.b.c.w"}
    assert match_weights(shaped(a__b__c__d__w=(3, 3)), target).loaded == {}


def test_a_name_as_it_stands_wins_over_the_other_spelling() -> None:
    both = shaped(stem_0__w=(2,), stem__0__w=(2,))
    match = match_weights(both, both)
    assert match.loaded == {name: name for name in both}


def test_every_name_is_in_exactly_one_list() -> None:
    source = shaped(pos_embed=(1, 16, 4), proj=(4, 4), head=(2, 4))
    target = shaped(encoder__pos_embed=(1, 25, 4), encoder__proj=(4, 4), extra=(3,))
    match = match_weights(source, target)
    assert match.loaded == {"encoder.proj": "proj"}
    assert match.mismatched == [("encoder.pos_embed", (1, 25, 4), (1, 16, 4))]
    assert (match.missing, match.unused) == (["extra"], ["head"])


def test_the_log_says_what_was_loaded_and_what_was_not() -> None:
    source = shaped(w=(2,), v=(5, 2), u=(4,)) | {f"old{i}": torch.zeros(1) for i in range(11)}
    target = shaped(w=(2,), v=(3, 2), u=(6,), new=(1,))
    assert describe(match_weights(source, target)) == [
        "init_weights: 1 of 4 tensors",
        "shape differs: v [3, 2] here, [5, 2] in the file; u [6] here, [4] in the file",
        "not in the file: new",
        "in the file but not here: old0, old1, old2, old3, old4, old5, old6, old7, and 3 more",
    ]


def test_the_log_names_the_file_and_is_one_line_when_all_is_loaded(tmp_path: Path) -> None:
    torch.save(randomised(network()), tmp_path / "x.pt")
    lines = describe(init_weights(network(), tmp_path / "x.pt"))
    assert lines == [f"init_weights: 9 of 9 tensors from {tmp_path / 'x.pt'}"]
