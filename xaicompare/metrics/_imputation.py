"""The linear system of ROAD for many images at once: conjugate gradients, preconditioned by a multigrid cycle.

Every removed pixel is to be the weighted mean of its eight neighbours, removed or not. On the removed pixels that is
(D - W) u = b, a graph Laplacian: symmetric, positive definite as soon as one pixel is left. A direct solver takes one
image at a time; here about ten iterations serve a whole batch, each a few additions of shifted images.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 1e-6
"""Of the squared error left, in the energy norm, in units of the image's variance: about 1e-3 of its spread."""

_STRAIGHT, _DIAGONAL = 1 / 6, 1 / 12  # the weights of neighbours in the paper
_DAMPING, _CORRECTION = 0.7, 1.4  # Jacobi sweeps; what constant interpolation lacks. Tried: 5 to 12 iterations
_MOST_ITERATIONS = 200


class _Grid(NamedTuple):
    """One level: the diagonal of the matrix, its inverse (0 where nothing is removed), and the edges, all (b, h, w).

    An edge is kept at its left or upper end; `falling` goes to the lower right; `rising` joins the right and the lower
    neighbour of the place where it is kept.
    """

    diagonal: Tensor
    inverse: Tensor
    across: Tensor
    down: Tensor
    falling: Tensor
    rising: Tensor


def imputed(images: Tensor, gone: Tensor) -> Tensor:
    """Images (b, c, h, w) whose removed pixels, gone (b, h, w), are the weighted means of their eight neighbours.

    Where nothing is left of an image, its own channel means stand everywhere.
    """
    empty = gone.flatten(1).all(1)[:, None, None]
    gone = gone & ~empty
    known = images * ~gone[:, None]
    means = known.sum((2, 3), keepdim=True) / (~gone).sum((1, 2))[:, None, None, None]
    right = _neighbours(known) * gone[:, None]  # (b, c, h, w)
    # What is left of a constant image by rounding must not keep the iteration going.
    scale = images.flatten(2).var(2) + 1e-8 * images.flatten(2).square().mean(2) + torch.finfo(images.dtype).tiny
    tolerance = TOLERANCE * scale[:, :, None, None]
    found = _solved(_levels(gone.to(images)), gone[:, None].to(images), right, means * gone[:, None], tolerance)
    return torch.where(empty[:, None], means, known + found)


def _solved(levels: list[_Grid], gone: Tensor, right: Tensor, start: Tensor, tolerance: Tensor) -> Tensor:
    """Preconditioned conjugate gradients, (b, c, h, w); each channel stops by itself, whatever shares its batch."""
    diagonal = levels[0].diagonal[:, None]

    def applied(u: Tensor) -> Tensor:
        return diagonal * u - gone * _neighbours(u)

    solution, residual = start, right - applied(start)
    better = _cycle(levels, residual)
    direction, energy = better, _dot(residual, better)
    for _ in range(_MOST_ITERATIONS):
        active = energy > tolerance
        if not bool(active.any()):
            break
        image = applied(direction)
        step = torch.where(active, energy / _dot(direction, image).clamp_min(1e-30), 0)
        solution, residual = solution + step * direction, residual - step * image
        better = _cycle(levels, residual)
        before, energy = energy, torch.where(active, _dot(residual, better), energy)
        direction = better + energy / before.clamp_min(1e-30) * direction
    return solution


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _neighbours(images: Tensor) -> Tensor:
    """The weighted sum over the eight neighbours of every pixel; beyond the border there are none.

    With the weights of the paper it is (1, 2, 1) across times (1, 2, 1) down, over 12, less a third of the middle.
    """
    rows = 2 * images
    rows[..., 1:] += images[..., :-1]
    rows[..., :-1] += images[..., 1:]
    both = 2 * rows
    both[..., 1:, :] += rows[..., :-1, :]
    both[..., :-1, :] += rows[..., 1:, :]
    return both.div_(12).sub_(images, alpha=1 / 3)


def _levels(gone: Tensor) -> list[_Grid]:
    """The grids from the pixels to a single node; gone (b, h, w) is 1 where a pixel is removed."""
    right, below = F.pad(gone[..., 1:], (0, 1)), F.pad(gone[..., 1:, :], (0, 0, 0, 1))
    diagonal = gone * _neighbours(torch.ones_like(gone))
    falling = gone * F.pad(gone[..., 1:, 1:], (0, 1, 0, 1)) * _DIAGONAL
    edges = (gone * right * _STRAIGHT, gone * below * _STRAIGHT, falling, right * below * _DIAGONAL)
    levels = [_Grid(diagonal, _inverse(diagonal), *edges)]
    while max(levels[-1].diagonal.shape[1:]) > 1:
        levels.append(_coarser(levels[-1]))
    return levels


def _inverse(diagonal: Tensor) -> Tensor:
    return torch.where(diagonal > 1e-6, 1 / diagonal.clamp_min(1e-6), 0)


def _coarser(grid: _Grid) -> _Grid:
    """The same energy for values that are constant on squares of 2 x 2: what joins two squares is added up."""
    _, _, a, d, f, r = (_even(field) for field in grid)
    diagonal = sum(_corners(_even(grid.diagonal)))
    within = a[:, ::2, ::2] + a[:, 1::2, ::2] + d[:, ::2, ::2] + d[:, ::2, 1::2] + f[:, ::2, ::2] + r[:, ::2, ::2]
    merged = diagonal - 2 * within
    across = a[:, ::2, 1::2] + a[:, 1::2, 1::2] + f[:, ::2, 1::2] + r[:, ::2, 1::2]
    down = d[:, 1::2, ::2] + d[:, 1::2, 1::2] + f[:, 1::2, ::2] + r[:, 1::2, ::2]
    return _Grid(merged, _inverse(merged), across, down, f[:, 1::2, 1::2], r[:, 1::2, 1::2])


def _even(field: Tensor) -> Tensor:
    """Padded with zeros to even sides."""
    height, width = field.shape[-2:]
    return F.pad(field, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else field


def _corners(field: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return field[..., ::2, ::2], field[..., ::2, 1::2], field[..., 1::2, ::2], field[..., 1::2, 1::2]


def _applied(grid: _Grid, u: Tensor) -> Tensor:
    """The matrix of a coarser grid times u (b, c, h, w)."""
    result = grid.diagonal[:, None] * u
    a, d = grid.across[:, None, :, :-1], grid.down[:, None, :-1]
    f, r = grid.falling[:, None, :-1, :-1], grid.rising[:, None, :-1, :-1]
    result[..., :-1] -= a * u[..., 1:]
    result[..., 1:] -= a * u[..., :-1]
    result[..., :-1, :] -= d * u[..., 1:, :]
    result[..., 1:, :] -= d * u[..., :-1, :]
    result[..., :-1, :-1] -= f * u[..., 1:, 1:]
    result[..., 1:, 1:] -= f * u[..., :-1, :-1]
    result[..., :-1, 1:] -= r * u[..., 1:, :-1]
    result[..., 1:, :-1] -= r * u[..., :-1, 1:]
    return result


def _cycle(levels: list[_Grid], residual: Tensor) -> Tensor:
    """One symmetric V-cycle: what is smooth in the solution comes from the coarser grids, the rest from Jacobi."""
    grid, coarser = levels[0], levels[1:]
    inverse = grid.inverse[:, None]
    if not coarser:
        return inverse * residual
    sweep = _DAMPING * inverse
    u = sweep * residual
    restricted = sum(_corners(_even(residual - _applied(grid, u))))
    assert isinstance(restricted, Tensor)
    smooth = _cycle(coarser, restricted).repeat_interleave(2, -1).repeat_interleave(2, -2)
    u = u + _CORRECTION * (inverse > 0) * smooth[..., : u.shape[-2], : u.shape[-1]]
    return u + sweep * (residual - _applied(grid, u))
