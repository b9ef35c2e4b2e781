"""The exported conditioner."""

from pathlib import Path

import pytest
import torch
from conditioners import VARIANTS, batch, randomized


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_export_equals_eager(variant: str) -> None:
    conditioner = randomized(variant)
    given, n = batch(conditioner, 4, (65, 97), (33, 40)), torch.export.Dim("n", min=1, max=512)
    shapes = tuple({0: n} for _ in given)
    if len(given) == 3:
        shapes = (*shapes, None)
        given = (*given, None)
    exported = torch.export.export(conditioner, given, dynamic_shapes=shapes).module()
    for size in (1, 5):
        given = batch(conditioner, size, (65, 97), (33, 40))
        padded = given if len(given) == 4 else (*given, None)
        expected, found = conditioner(*given), exported(*padded)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter and onnxscript, about themselves
@pytest.mark.parametrize("variant", VARIANTS)
def test_onnx_equals_eager(variant: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    conditioner = randomized(variant)
    given = batch(conditioner, 2, (65, 97), (33, 40))
    torch.onnx.export(conditioner, given, tmp_path / "conditioner.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "conditioner.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: part.numpy() for name, part in zip(names, given, strict=True)})
    with torch.no_grad():
        expected = [part for part in conditioner(*given) if part is not None]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-4)
