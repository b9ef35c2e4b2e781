"""Sine positions against a slow reference, and the centre of a mask."""

import math

import pytest
import torch

from keypoint_detection.gaze.positions import cell_centres, encode_places, mask_centre, sine_positions


def slow_positions(rows: int, columns: int, width: int, temperature: float = 10000.0) -> list[list[float]]:
    quarter = width // 4
    frequencies = [temperature ** (-k / quarter) for k in range(quarter)]
    table = []
    for row in range(rows):
        for column in range(columns):
            code = [math.sin(row * f) for f in frequencies] + [math.cos(row * f) for f in frequencies]
            code += [math.sin(column * f) for f in frequencies] + [math.cos(column * f) for f in frequencies]
            table.append(code)
    return table


@pytest.mark.parametrize(("rows", "columns", "width"), [(7, 7, 64), (3, 5, 12), (1, 2, 4)])
def test_positions_equal_a_slow_reference(rows: int, columns: int, width: int) -> None:
    expected = torch.tensor(slow_positions(rows, columns, width))
    torch.testing.assert_close(sine_positions((rows, columns), width), expected, rtol=1e-5, atol=1e-5)


def test_a_worked_cell() -> None:
    # width 4 has the one frequency 1: row 1, column 2
    expected = torch.tensor([math.sin(1), math.cos(1), math.sin(2), math.cos(2)])
    torch.testing.assert_close(sine_positions((2, 3), 4)[5], expected)


def test_every_cell_has_a_code_of_its_own() -> None:
    codes = sine_positions((16, 16), 64)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(256)
    assert distances.min() > 0.1


def test_the_span_lays_grids_over_each_other() -> None:
    fine = sine_positions((8, 8), 16, span_hw=(4, 4), temperature=100.0)
    # Fine cells 0 and 1 are centred at -1/4 and 1/4 of the coarse cell 0.
    expected = encode_places(torch.tensor([[0.25, -0.25]]), 16, temperature=100.0)
    torch.testing.assert_close(fine[1:2], expected)
    coarse = sine_positions((4, 4), 16, temperature=100.0)
    nearest = torch.cdist(fine, coarse).argmin(1).view(8, 8)
    expected_cells = torch.arange(16).view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(nearest, expected_cells)


@pytest.mark.parametrize("width", [0, 2, 6])
def test_a_width_that_does_not_divide_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_positions((2, 2), width)


def test_cell_centres_are_x_then_y_row_by_row() -> None:
    expected = torch.tensor([[0.25, 0.5], [0.75, 0.5]])
    torch.testing.assert_close(cell_centres((1, 2)), expected)


def test_the_centre_of_a_mask() -> None:
    mask = torch.zeros(3, 1, 10, 20, dtype=torch.uint8)
    mask[0, 0, 2:4, 5:15] = 255  # rows 2 and 3: centre (2 + 4) / 2 / 10; columns 5..14: centre 10 / 20
    mask[1, 0, 0, 0] = 255
    expected = torch.tensor([[0.5, 0.3], [0.025, 0.05], [0.5, 0.5]])
    torch.testing.assert_close(mask_centre(mask), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_centre_of_a_large_mask_is_exact_in_half_precision_too(dtype: torch.dtype) -> None:
    mask = torch.zeros(1, 1, 224, 224, dtype=torch.uint8)
    mask[:, :, 30:150, 101:183] = 255
    with torch.autocast("cpu", dtype=dtype):
        found = mask_centre(mask)
    torch.testing.assert_close(found, torch.tensor([[142 / 224, 90 / 224]]), rtol=0, atol=1e-6)
