"""The linear system of ROAD for many images at once: conjugate gradients, preconditioned by a multigrid cycle.

Every removed pixel is to be the weighted mean of its eight neighbours, removed or not. On the removed pixels that is
(D - W) u = b, a graph Laplacian: symmetric, positive definite as soon as one pixel is left. A direct solver takes one
image at a time; here about ten iterations serve a whole batch, each a few additions of shifted images. They are made in
place, since fresh memory costs a CPU more than what is written there, and small images lie side by side in memory, so
that a shift is one long row: half the time of the same written plainly.
"""

from typing import NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-6
"""Of the squared error left, in the energy norm, in units of the image's variance: about 1e-3 of its spread."""

_STRAIGHT, _DIAGONAL = 1 / 6, 1 / 12  # the weights of neighbours in the paper
_DAMPING, _CORRECTION = 0.7, 1.4  # Jacobi sweeps; what constant interpolation lacks. Tried: 5 to 12 iterations
_MOST_ITERATIONS = 200
_AT_ONCE = 400_000  # values that a CPU works on at once: what fits into its cache
_SMALL = 64  # pixels high, up to which the images of a batch come last in memory


class _Grid(NamedTuple):
    """One level: the matrix on its nodes, all (h, w, 1, b), and, from `right` on, vectors to work with, (h, w, c, b).

    An edge is kept at its left or upper end; `falling` goes to the lower right; `rising` joins the right and the lower
    neighbour of the place where it is kept.
    """

    diagonal: Tensor
    sweep: Tensor  # Jacobi's: the damped inverse of the diagonal, 0 where nothing is removed
    across: Tensor
    down: Tensor
    falling: Tensor
    rising: Tensor
    right: Tensor  # hand side
    found: Tensor  # what the cycle returns
    left: Tensor  # of the right-hand side
    spare: Tensor


def imputed(images: Tensor, gone: Tensor) -> Tensor:
    """Images (b, c, h, w) whose removed pixels, gone (b, h, w), are the weighted means of their eight neighbours.

    Where nothing is left of an image, its own channel means stand everywhere.
    """
    together = max(1, _AT_ONCE // images[0].numel()) if images.device.type == "cpu" else len(images)
    return torch.cat([_imputed(*part) for part in zip(images.split(together), gone.split(together), strict=True)])


def _imputed(images: Tensor, gone: Tensor) -> Tensor:
    empty = gone.flatten(1).all(1)
    hole = (gone & ~empty[:, None, None]).permute(1, 2, 0)[:, :, None].to(images)  # (h, w, 1, b)
    pixels = images.permute(2, 3, 1, 0)  # (h, w, c, b)
    if len(pixels) <= _SMALL:
        hole, pixels = hole.contiguous(), pixels.contiguous()
    known = pixels * (1 - hole)
    means = known.sum((0, 1)) / (1 - hole).sum((0, 1))
    # What is left of a constant image by rounding must not keep the iteration going.
    scale = pixels.var((0, 1)) + 1e-8 * pixels.square().mean((0, 1)) + torch.finfo(images.dtype).tiny
    found = _solved(_levels(hole, known), hole, known, means, TOLERANCE * scale)
    return torch.where(empty, means, found.add_(known)).permute(3, 2, 0, 1)


def _solved(levels: list[_Grid], hole: Tensor, known: Tensor, means: Tensor, tolerance: Tensor) -> Tensor:
    """Preconditioned conjugate gradients, (h, w, c, b); each channel stops by itself, whatever shares its batch."""
    grid, image, solution = levels[0], torch.empty_like(known), means * hole
    # The cycle starts from what is left, so its right-hand side on the pixels is the residual.
    residual = _neighbours(known, grid.right, grid.spare).mul_(hole)
    residual -= _applied(levels, solution, image, hole)
    direction = _cycle(levels, hole).clone()
    energy = _dot(residual, direction, grid.spare)
    for _ in range(_MOST_ITERATIONS):
        active = energy > tolerance
        if not bool(active.any()):
            break
        _applied(levels, direction, image, hole)
        step = torch.where(active, energy / _dot(direction, image, grid.spare).clamp_min(1e-30), 0)
        solution.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        better = _cycle(levels, hole)
        before, energy = energy, torch.where(active, _dot(residual, better, grid.spare), energy)
        direction.mul_(energy / before.clamp_min(1e-30)).add_(better)
    return solution


def _dot(a: Tensor, b: Tensor, spare: Tensor) -> Tensor:
    return torch.mul(a, b, out=spare).sum((0, 1))


def _neighbours(images: Tensor, out: Tensor, spare: Tensor) -> Tensor:
    """The weighted sum over the eight neighbours of every pixel; beyond the border there are none.

    With the weights of the paper it is (1, 2, 1) across times (1, 2, 1) down, over 12, less a third of the middle.
    """
    rows = torch.mul(images, 1 / 6, out=spare)
    rows[:, 1:].add_(images[:, :-1], alpha=1 / 12)
    rows[:, :-1].add_(images[:, 1:], alpha=1 / 12)
    torch.mul(rows, 2, out=out)
    out[1:] += rows[:-1]
    out[:-1] += rows[1:]
    return out.sub_(images, alpha=1 / 3)


def _levels(hole: Tensor, known: Tensor) -> list[_Grid]:
    """The grids from the pixels to a single node; hole (h, w, 1, b) is 1 where a pixel is removed."""
    right, below = _padded(hole[:, 1:], 0, 1), _padded(hole[1:], 1, 0)
    diagonal = _neighbours(torch.ones_like(hole), torch.empty_like(hole), torch.empty_like(hole)).mul_(hole)
    falling = hole * _padded(hole[1:, 1:], 1, 1) * _DIAGONAL
    edges = (hole * right * _STRAIGHT, hole * below * _STRAIGHT, falling, right * below * _DIAGONAL)
    levels = [_grid(diagonal, edges, known)]
    while max(levels[-1].diagonal.shape[:2]) > 1:
        levels.append(_coarser(levels[-1]))
    return levels


def _grid(diagonal: Tensor, edges: tuple[Tensor, ...], like: Tensor) -> _Grid:
    sweep = torch.where(diagonal > 1e-6, _DAMPING / diagonal.clamp_min(1e-6), 0)
    height, width = diagonal.shape[:2]
    return _Grid(diagonal, sweep, *edges, *(_zeros(like, height, width) for _ in range(4)))


def _zeros(like: Tensor, height: int, width: int) -> Tensor:
    """Zeros (height, width, c, b) in the order of memory of `like` (h, w, c, b)."""
    channels, batch = like.shape[2:]
    if like.is_contiguous():
        return like.new_zeros(height, width, channels, batch)
    return like.new_zeros(batch, channels, height, width).permute(2, 3, 1, 0)


def _coarser(grid: _Grid) -> _Grid:
    """The same energy for values that are constant on squares of 2 x 2: what joins two squares is added up."""
    a, d, f, r = (_even(field) for field in (grid.across, grid.down, grid.falling, grid.rising))
    diagonal = sum(_corners(_even(grid.diagonal)))
    within = a[::2, ::2] + a[1::2, ::2] + d[::2, ::2] + d[::2, 1::2] + f[::2, ::2] + r[::2, ::2]
    across = a[::2, 1::2] + a[1::2, 1::2] + f[::2, 1::2] + r[::2, 1::2]
    down = d[1::2, ::2] + d[1::2, 1::2] + f[1::2, ::2] + r[1::2, ::2]
    return _grid(diagonal - 2 * within, (across, down, f[1::2, 1::2], r[1::2, 1::2]), grid.found)


def _padded(field: Tensor, height: int, width: int) -> Tensor:
    """With so many rows and columns of zeros at its lower and right end."""
    h, w = field.shape[:2]
    found = _zeros(field, h + height, w + width)
    found[:h, :w] = field
    return found


def _even(field: Tensor) -> Tensor:
    height, width = field.shape[:2]
    return _padded(field, height % 2, width % 2) if height % 2 or width % 2 else field


def _corners(field: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return field[::2, ::2], field[::2, 1::2], field[1::2, ::2], field[1::2, 1::2]


def _applied(levels: list[_Grid], u: Tensor, out: Tensor, hole: Tensor | None = None) -> Tensor:
    """The matrix times u (h, w, c, b); among pixels, all edges have the same weights."""
    grid = levels[0]
    if hole is not None:
        return _neighbours(u, out, grid.spare).mul_(-hole).addcmul_(grid.diagonal, u)
    torch.mul(grid.diagonal, u, out=out)
    a, d = grid.across[:, :-1], grid.down[:-1]
    f, r = grid.falling[:-1, :-1], grid.rising[:-1, :-1]
    out[:, :-1].addcmul_(a, u[:, 1:], value=-1)
    out[:, 1:].addcmul_(a, u[:, :-1], value=-1)
    out[:-1].addcmul_(d, u[1:], value=-1)
    out[1:].addcmul_(d, u[:-1], value=-1)
    out[:-1, :-1].addcmul_(f, u[1:, 1:], value=-1)
    out[1:, 1:].addcmul_(f, u[:-1, :-1], value=-1)
    out[:-1, 1:].addcmul_(r, u[1:, :-1], value=-1)
    out[1:, :-1].addcmul_(r, u[:-1, 1:], value=-1)
    return out


def _cycle(levels: list[_Grid], hole: Tensor | None = None) -> Tensor:
    """One symmetric V-cycle: what is smooth in the solution comes from the coarser grids, the rest from Jacobi."""
    grid, coarser = levels[0], levels[1:]
    u = torch.mul(grid.sweep, grid.right, out=grid.found)
    if not coarser:
        return u.div_(_DAMPING)
    left = torch.sub(grid.right, _applied(levels, u, grid.left, hole), out=grid.left)
    coarse = coarser[0].right.zero_()
    for corner in _corners(left):
        coarse[: corner.shape[0], : corner.shape[1]] += corner
    smooth = _cycle(coarser).mul_(_CORRECTION)
    for corner in _corners(u):
        corner += smooth[: corner.shape[0], : corner.shape[1]]
    u *= grid.sweep > 0
    torch.sub(grid.right, _applied(levels, u, left, hole), out=left)
    return u.addcmul_(grid.sweep, left)
