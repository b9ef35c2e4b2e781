"""Sub-pixel positions of the peaks of heatmaps, for many peaks at once; the door is `utils.heatmap`."""

import torch
from torch import Tensor

from keypoint_detection.utils.heatmap_decode import Peaks

PATCH_RADIUS = 7
"""Reach in pixels of the surroundings that a Gaussian is fitted to: 3.5 sigma at the usual sigma of 2."""
PATCH_SIDE = 2 * PATCH_RADIUS + 1
FIT_STEPS = 6
"""Gauss-Newton steps of a fit: three settle a lone peak, the others a peak with neighbours or a flat top."""
VALLEY = 0.94
"""Two peaks are two if the map between them falls below this part of the lower one."""
HALF_WIDTH_PER_SIGMA = 1.17741
"""Radius at half the height of a Gaussian, `sqrt(2 ln 2)` sigma."""


def quarter_offset(planes: Tensor, peaks: Peaks) -> Tensor:
    """Move each peak a quarter pixel to the side of its higher neighbour, per axis.

    Plateaus keep their centre of mass along an axis where it is not the pixel, and so do pixels on the
    border, which have a neighbour on one side only.

    Args:
        planes: `[p, h, w]`.
        peaks: m peaks.

    Returns:
        `[m, 2]` in pixels.
    """
    x, y = peaks.xy.unbind(1)
    height, width = planes.shape[1:]
    left, right = (x - 1).clamp(min=0), (x + 1).clamp(max=width - 1)
    above, below = (y - 1).clamp(min=0), (y + 1).clamp(max=height - 1)
    slope_x = planes[peaks.plane, y, right] - planes[peaks.plane, y, left]
    slope_y = planes[peaks.plane, below, x] - planes[peaks.plane, above, x]
    slope = torch.stack([slope_x * (right - left == 2), slope_y * (below - above == 2)], 1)
    return peaks.centre + 0.25 * slope.nan_to_num().sign() * (peaks.centre == peaks.xy)


def fit_gaussians(planes: Tensor, peaks: Peaks) -> Tensor:
    """Fit a Gaussian to the surroundings of every peak and return its centre.

    Height, centre and width of `P(u) = a exp(-|u - c|^2 / (2 sigma^2))` solve a least-squares problem by
    Gauss-Newton steps; one step is a Taylor expansion of log P about the current centre, weighted by P^2.
    White noise is averaged as well as it can be, and a peak cut by the border is like any other. Pixels as
    high as the peak only say that P is at least that high, so a flat top needs no special case. The
    neighbours' Gaussians, O together, count too: the map is taken as `max(P, O) + overlap * min(P, O)`, with
    an overlap fitted from 0 (targets combined by maximum) to 1 (by sum).

    Args:
        planes: `[p, h, w]`.
        peaks: m peaks, grouped by plane.

    Returns:
        `[m, 2]` in pixels, on each axis no further from the peak than its estimated sigma.

    Source: ours; the Taylor expansion of the log map is DARK's (arXiv 1910.06278).
    """
    patch, usable, grid = _gather_patches(planes, peaks)
    reach = _estimate_sigma(patch, usable, peaks.score)[:, None]
    neighbours = _find_neighbours(planes, peaks, reach[:, 0])
    height, centre, sigma = peaks.score[:, None], peaks.centre, reach
    for _ in range(FIT_STEPS):
        gaussians = torch.cat([height, centre, sigma], 1)
        others = _draw_neighbours(gaussians, neighbours, grid)
        step = _gauss_newton_step(patch, usable, grid, gaussians, others).nan_to_num().clamp(-0.5, 0.5)
        height = height * (1 + step[:, :1])
        centre = centre + step[:, 1:3] * sigma
        centre = torch.maximum(torch.minimum(centre, peaks.centre + reach), peaks.centre - reach)
        sigma = (sigma * (1 + step[:, 3:])).clamp(0.4, 2.0 * PATCH_RADIUS)
    return centre


def _gather_patches(planes: Tensor, peaks: Peaks) -> tuple[Tensor, Tensor, Tensor]:
    """Return the patches `[m, s, s]` around the peaks, which pixels count, and their x and y `[m, 2, s]`."""
    height, width = planes.shape[1:]
    grid = peaks.xy[:, :, None] + torch.arange(-PATCH_RADIUS, PATCH_RADIUS + 1, device=planes.device)
    column, row = grid[:, 0, None, :], grid[:, 1, :, None]
    patch = planes[peaks.plane[:, None, None], row.clamp(0, height - 1), column.clamp(0, width - 1)]
    usable = (column >= 0) & (column < width) & (row >= 0) & (row < height) & patch.isfinite()
    return torch.where(usable, patch, 0.0), usable, grid.float()


def _estimate_sigma(patch: Tensor, usable: Tensor, score: Tensor) -> Tensor:
    """Estimate sigma `[m]` from where the map falls to half the peak: the second nearest of four ways."""
    middle = PATCH_RADIUS
    known = torch.where(usable, patch, torch.inf)
    lines = torch.stack([known[:, middle], known[:, :, middle]], 1)
    rays = torch.cat([lines[..., middle:], lines[..., : middle + 1].flip(2)], 1)
    half = score[:, None] / 2
    below = torch.nn.functional.pad(rays < half[..., None], (0, 1), value=True)
    outer = below.int().argmax(2).clamp(1, middle)
    inner_value, outer_value = (rays.gather(2, at[..., None])[..., 0] for at in (outer - 1, outer))
    fraction = ((inner_value - half) / (inner_value - outer_value)).nan_to_num(1.0).clamp(0, 1)
    radius = (outer - 1 + fraction).median(1).values
    return radius.clamp(min=0.5) / HALF_WIDTH_PER_SIGMA


def _find_neighbours(planes: Tensor, peaks: Peaks, sigma: Tensor) -> Tensor:
    """Return the indices of the separate peaks near each peak, `[m, j]` padded with -1."""
    one, two = _near_pairs(peaks)
    separate = _has_valley(
        planes, peaks.select(one), peaks.select(two), torch.maximum(sigma[one], sigma[two])
    )
    one, two = one[separate], two[separate]
    slot = torch.arange(len(one), device=one.device) - torch.searchsorted(one, one)
    most = int(slot.max()) + 1 if len(slot) else 0
    neighbours = torch.full((len(peaks.plane), most), -1, device=one.device)
    neighbours[one, slot] = two
    return neighbours


def _near_pairs(peaks: Peaks) -> tuple[Tensor, Tensor]:
    """Return the pairs of peaks of one plane whose patches overlap, two indices `[e]`, the first rising."""
    count, device = len(peaks.plane), peaks.plane.device
    first, last = (torch.searchsorted(peaks.plane, peaks.plane, right=right) for right in (False, True))
    most = int((last - first).max()) if count else 0
    other = first[:, None] + torch.arange(most, device=device)
    exists = (other < last[:, None]) & (other != torch.arange(count, device=device)[:, None])
    other = other.clamp(max=max(count - 1, 0))
    distance = (peaks.xy[other] - peaks.xy[:, None]).abs().amax(2)
    one, column = (exists & (distance <= 2 * PATCH_RADIUS)).nonzero(as_tuple=True)
    return one, other[one, column]


def _has_valley(planes: Tensor, one: Peaks, two: Peaks, sigma: Tensor) -> Tensor:
    """Tell which pairs of peaks have a valley between them, `[e]`.

    The profile along the line that joins them has five points, each the mean of five values across the line,
    one sigma to both sides. That averages noise and leaves the valley of two Gaussians as deep as it is,
    because they are equally wide across the line at every point of it.
    """
    along = (two.xy - one.xy).float()
    across = along.flip(1) / along.norm(dim=1, keepdim=True) * sigma[:, None]
    across = torch.stack([-across[:, 0], across[:, 1]], 1)
    five = torch.linspace(0, 1, 5, device=planes.device)[:, None]
    points = one.xy[:, None] + along[:, None] * five
    points = points[:, :, None] + across[:, None, None] * (2 * five - 1)
    x, y = points.round().long().unbind(-1)
    x, y = x.clamp(0, planes.shape[2] - 1), y.clamp(0, planes.shape[1] - 1)
    profile = planes[one.plane[:, None, None], y, x].mean(2)
    return profile[:, 1:4].amin(1) < VALLEY * torch.minimum(profile[:, 0], profile[:, 4])


def _draw_neighbours(gaussians: Tensor, neighbours: Tensor, grid: Tensor) -> Tensor:
    """Return the sum of the neighbours' Gaussians on every patch, `[m, s, s]`."""
    height, x, y, sigma = gaussians[neighbours].unbind(2)
    along_x = torch.exp(-0.5 * ((grid[:, 0, None] - x[..., None]) / sigma[..., None]) ** 2)
    along_y = torch.exp(-0.5 * ((grid[:, 1, None] - y[..., None]) / sigma[..., None]) ** 2)
    return (along_y * (height * (neighbours >= 0))[..., None]).mT @ along_x


def _gauss_newton_step(
    patch: Tensor, usable: Tensor, grid: Tensor, gaussians: Tensor, others: Tensor
) -> Tensor:
    """Return the changes of log height, x / sigma, y / sigma and log sigma for a better fit, `[m, 4]`.

    Args:
        patch: `[m, s, s]`, the map around each peak.
        usable: `[m, s, s]`, False outside the map and where it is not finite.
        grid: `[m, 2, s]`, coordinates of the columns and rows.
        gaussians: `[m, 4]`, height, x, y and sigma.
        others: `[m, s, s]`, what the neighbours add.
    """
    height, sigma = gaussians[:, :1, None], gaussians[:, 3:, None]
    tx, ty = ((grid - gaussians[:, 1:3, None]) / sigma).unbind(1)
    shape = torch.exp(-0.5 * ty**2)[:, :, None] * torch.exp(-0.5 * tx**2)[:, None, :]
    own = height * shape
    smaller, excess = torch.minimum(own, others) * usable, patch - torch.maximum(own, others)
    overlap = (excess * smaller).sum((1, 2)) / (smaller**2).sum((1, 2)).clamp(min=1e-12)
    top = patch[:, PATCH_RADIUS, None, PATCH_RADIUS, None]
    weight = shape * (usable & (own >= others) & ((patch < top) | (excess > 0)))
    residual = (excess - overlap.clamp(0, 1)[:, None, None] * smaller) / height
    power = torch.arange(5, device=patch.device)
    x_powers, y_powers = tx[..., None] ** power, ty[..., None] ** power
    curvature = y_powers.mT @ (weight * shape) @ x_powers
    slope = y_powers[..., :3].mT @ (weight * residual) @ x_powers[..., :3]
    return _solve_moments(curvature, slope)


def _solve_moments(curvature: Tensor, slope: Tensor) -> Tensor:
    """Solve the normal equations for the basis 1, x, y, x^2 + y^2 from moments `[m, y power, x power]`."""
    device = curvature.device
    y_power, x_power = torch.tensor([[0, 0, 1, 0, 2], [0, 1, 0, 2, 0]], device=device)  # 1, x, y, x^2, y^2
    basis = torch.eye(5, device=device)[:, :4]
    basis[4, 3] = 1.0
    normal = curvature[:, y_power[:, None] + y_power, x_power[:, None] + x_power]
    normal, right = basis.T @ normal @ basis, slope[:, y_power, x_power] @ basis
    damping = 1e-3 * normal.diagonal(dim1=1, dim2=2) + 1e-6  # solvable even where no pixel counts
    return torch.linalg.solve_ex(normal + torch.diag_embed(damping), right[..., None])[0][..., 0]
