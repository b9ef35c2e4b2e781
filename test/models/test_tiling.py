import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.models import tiling as tiling_module
from keypoint_detection.models.tiling import Span, Tiling, is_larger_than_tile, tiled_logits


def test_spans_by_hand() -> None:
    # 100 px are 104 with padding to 8; tiles of 40 in steps of at most 24: starts 0, 16, 40, 64
    assert Tiling(40, 16, 8, 4).spans(100) == [
        Span(0, 40, 0, 7),  # cells 0..9; the next one starts at cell 4: they meet at cell 7
        Span(16, 56, 7, 12),
        Span(40, 80, 12, 18),
        Span(64, 100, 18, 25),  # ends where the image ends
    ]


def test_a_side_of_no_multiple_is_rounded_down() -> None:
    assert Tiling(47, 16, 8, 4).spans(100) == Tiling(40, 16, 8, 4).spans(100)


@pytest.mark.parametrize("length", [1, 30, 45, 47])
def test_what_fits_is_not_cut(length: int) -> None:
    assert Tiling(47, 16, 8, 4).spans(length) == [Span(0, length, 0, -(-length // 4))]


def test_larger_than_a_tile() -> None:
    assert is_larger_than_tile((64, 65), 64)
    assert is_larger_than_tile((65, 3), 64)
    assert not is_larger_than_tile((64, 64), 64)
    assert not is_larger_than_tile((6400, 6400), None)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Tiling, int]:
    stride = 2 ** draw(st.integers(0, 3))
    multiple = stride * draw(st.integers(1, 5))
    side = multiple * draw(st.integers(1, 12)) + draw(st.integers(0, multiple - 1))
    overlap = draw(st.integers(0, side // multiple * multiple - multiple))
    return Tiling(side, overlap, multiple, stride), draw(st.integers(1, 500))


@settings(deadline=None)  # a length of 500 px in tiles of 1 px takes a while
@given(cuts())
def test_every_cell_comes_once_from_the_tile_that_sees_most_around_it(cut: tuple[Tiling, int]) -> None:
    tiling, length = cut
    tiling.check("Unet")
    spans, stride = tiling.spans(length), tiling.stride
    owners = [index for index, span in enumerate(spans) for _ in range(span.first, span.end)]
    cells = [cell for span in spans for cell in range(span.first, span.end)]
    assert cells == list(range(-(-length // stride)))
    assert set(owners) == set(range(len(spans)))  # no tile for nothing
    for span in spans:
        assert span.start % tiling.multiple == 0
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start <= tiling.side_px
        assert span.stop == length or (span.stop - span.start) % tiling.multiple == 0

    def distance_px(cell: int, span: Span) -> float:
        """Return how far the centre of a cell is from the nearest border that the image goes on beyond."""
        centre = (cell + 0.5) * stride
        if not span.start <= centre <= span.stop + stride:  # the last cell may reach beyond the image
            return -1.0
        left = centre - span.start if span.start else 1e9
        right = span.stop - centre if span.stop < length else 1e9
        return min(left, right)

    for cell, owner in zip(cells, owners, strict=True):
        own = distance_px(cell, spans[owner])
        assert own == max(distance_px(cell, span) for span in spans)
        assert own >= min(tiling.overlap_px / 2, length)


@given(cuts())
def test_the_fewest_tiles(cut: tuple[Tiling, int]) -> None:
    tiling, length = cut
    spans = tiling.spans(length)
    side = tiling.side_px // tiling.multiple * tiling.multiple
    step = (side - tiling.overlap_px) // tiling.multiple * tiling.multiple
    reached, count = side, 1  # the plain way: step by step until the end is covered
    while length > tiling.side_px and reached < length:
        reached, count = reached + step, count + 1
    assert len(spans) == count


def test_tiles_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected tiles of at least 32 px, .* MaxVit, got 31 px; use lar"):
        Tiling(31, 0, 32, 1).check("MaxVit")
    for overlap in (64, 61, -1):
        with pytest.raises(
            ValueError, match=rf"^expected an overlap of 0 to 60 px .* 66 px .*, got {overlap}"
        ):
            Tiling(66, overlap, 4, 1).check("Unet")
    Tiling(66, 60, 4, 1).check("Unet")


def cells_of(image: Tensor, stride: int) -> Tensor:
    """Return per pooled cell its sum, `[n, c, ceil(h / stride), ceil(w / stride)]`, as a backbone pads."""
    height, width = image.shape[-2:]
    padded = F.pad(image.double(), (0, -width % stride, 0, -height % stride), mode="replicate")
    return F.avg_pool2d(padded, stride)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_cells_are_put_where_they_belong(stride: int) -> None:
    image = torch.randint(0, 256, (2, 101, 67), dtype=torch.uint8)
    found = tiled_logits(lambda tiles: cells_of(tiles, stride), image, Tiling(24, 8, 8, stride))
    assert torch.equal(found, cells_of(image[None], stride)[0])
    assert found.is_contiguous()


def test_a_forward_pass_gets_few_tiles_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling_module, "TILE_PIXELS_AT_ONCE", 3 * 16 * 16)
    shapes: list[tuple[int, ...]] = []

    def forward(tiles: Tensor) -> Tensor:
        shapes.append(tuple(tiles.shape))
        return tiles.double()

    tiled_logits(forward, torch.zeros(1, 61, 64, dtype=torch.uint8), Tiling(16, 0, 8, 1))
    # 4 x 4 tiles, the lowest ones 13 px high
    assert shapes == [(3, 1, 16, 16)] * 4 + [(3, 1, 13, 16), (1, 1, 13, 16)]
