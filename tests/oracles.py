"""Slow answers in float64, from the formulas of the papers with explicit sums; they share no line with the library."""

import math
from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STABILIZER = 1e-6
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def dense(layer: nn.Module, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Weights (j, k) and bias (k,) of any affine layer on samples of this shape, by pushing unit vectors through it."""
    bias = layer(torch.zeros(1, *shape).double()).flatten()
    units = torch.eye(math.prod(shape)).double().unflatten(1, shape)
    return layer(units).flatten(1) - bias, bias


def shared(parts: Tensor, rest: Tensor, relevance: Tensor, epsilon: float | Tensor = STABILIZER) -> Tensor:
    """Relevance (k,) shared by parts (j, k) / (epsilon sign(z) + z), z (k,) the sum of the parts and the rest."""
    z = parts.sum(0) + rest
    z = z + torch.where(z < 0, -1.0, 1.0).to(z) * epsilon
    return (parts * torch.where(z == 0, 0.0, relevance / z)).sum(1)


def zero(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
    return shared(a[:, None] * w, b, relevance, epsilon=0.0)


def epsilon(value: float) -> Rule:
    return lambda a, w, b, relevance: shared(a[:, None] * w, b, relevance, value)


def epsilon_of(share: float, size: Callable[[Tensor], Tensor]) -> Rule:
    """Epsilon as a share of the size (its std, its rms) of z."""
    return lambda a, w, b, relevance: shared(a[:, None] * w, b, relevance, share * size(a @ w + b) + STABILIZER)


def gamma(value: float) -> Rule:
    """The generalised form: what has the sign of z_k is strengthened, so all denominators are as large as z_k."""

    def rule(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
        parts, z = a[:, None] * w, a @ w + b
        up, down = parts + value * parts.clamp(min=0), parts + value * parts.clamp(max=0)
        return shared(up, b + value * b.clamp(min=0), torch.where(z > 0, relevance, 0.0)) + shared(
            down, b + value * b.clamp(max=0), torch.where(z < 0, relevance, 0.0)
        )

    return rule


def alpha_beta(alpha: float, beta: float) -> Rule:
    def rule(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
        parts = a[:, None] * w
        positive = shared(parts.clamp(min=0), b.clamp(min=0), relevance)
        return alpha * positive - beta * shared(parts.clamp(max=0), b.clamp(max=0), relevance)

    return rule


z_plus = alpha_beta(1, 0)


def z_box(low: Tensor, high: Tensor) -> Rule:
    def rule(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
        parts = a[:, None] * w - low[:, None] * w.clamp(min=0) - high[:, None] * w.clamp(max=0)
        return shared(parts, torch.zeros_like(b), relevance)

    return rule


def w_square(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
    return shared(w**2, torch.zeros_like(b), relevance)


def flat(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
    return shared((w != 0).double(), torch.zeros_like(b), relevance)


def lrp(layers: list[nn.Module], sample: Tensor, target: int, rules: list[Rule], average_pools: bool = False) -> Tensor:
    """Relevance of one sample, layer by layer; `rules` are those of the convolutions and linear layers from below."""
    activations = [sample]
    for layer in layers:
        activations.append(layer(activations[-1][None])[0].detach())
    logits, left = activations.pop(), list(rules)
    relevance = torch.zeros_like(logits)
    relevance[target] = logits[target]
    for layer, a in zip(reversed(layers), reversed(activations), strict=True):
        if isinstance(layer, nn.MaxPool2d) and not average_pools:
            winners = F.max_pool2d(a, layer.kernel_size, layer.stride, return_indices=True)[1].flatten(1)
            shares = relevance.reshape(winners.shape)
            relevance = torch.zeros_like(a).flatten(1).scatter_add(1, winners, shares)
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            affine = dense(nn.AvgPool2d(layer.kernel_size, layer.stride), a.shape)
            relevance = epsilon(STABILIZER)(a.flatten(), *affine, relevance.flatten())
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            relevance = left.pop()(a.flatten(), *dense(layer, a.shape), relevance.flatten())
        relevance = relevance.reshape(a.shape)
    assert not left, "a rule was not used"
    return relevance.detach()


def shapley(worth: Callable[[tuple[int, ...]], float], count: int) -> Tensor:
    """Exact Shapley values (count,): the mean gain of each player over all coalitions of the others."""
    values = torch.zeros(count, dtype=torch.float64)
    for player in range(count):
        others = [other for other in range(count) if other != player]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for coalition in combinations(others, size):
                values[player] += weight * (worth((*coalition, player)) - worth(coalition))
    return values


def deeplift(layers: list[nn.Module], sample: Tensor, baseline: Tensor, target: int) -> Tensor:
    """Rescale rule on linear layers and ReLU: multipliers from the output down, times the difference of the inputs."""
    here, there = [sample], [baseline]
    for layer in layers:
        here.append(layer(here[-1][None])[0])
        there.append(layer(there[-1][None])[0])
    multipliers = torch.zeros_like(here[-1])
    multipliers[target] = 1
    for depth in reversed(range(len(layers))):
        before = here[depth] - there[depth]
        if isinstance(layers[depth], nn.ReLU):
            multipliers = multipliers * (here[depth + 1] - there[depth + 1]) / before
        else:
            multipliers = (dense(layers[depth], before.shape)[0] @ multipliers.flatten()).reshape(before.shape)
    return multipliers.detach() * (sample - baseline)


def reveal_cancel(layers: list[nn.Module], sample: Tensor, baseline: Tensor, target: int) -> Tensor:
    """RevealCancel on linear layers and ReLU, one vector, loop by loop: contributions (features,)."""
    there = [baseline]
    rises, falls = [(sample - baseline).clamp(min=0)], [(sample - baseline).clamp(max=0)]
    for layer in layers:
        base, rise, fall = there[-1], rises[-1], falls[-1]
        there.append(layer(base[None])[0].detach())
        if isinstance(layer, nn.ReLU):
            up = [
                max(b + r, 0) - max(b, 0) + max(b + f + r, 0) - max(b + f, 0) for b, r, f in _triples(base, rise, fall)
            ]
            down = [
                max(b + f, 0) - max(b, 0) + max(b + r + f, 0) - max(b + r, 0) for b, r, f in _triples(base, rise, fall)
            ]
            rises.append(torch.tensor(up).double() / 2)
            falls.append(torch.tensor(down).double() / 2)
        else:
            parts = torch.stack([part[None] * layer.weight for part in (rise, fall)]).detach()  # (2, k, j)
            rises.append(parts.clamp(min=0).sum((0, 2)))
            falls.append(parts.clamp(max=0).sum((0, 2)))
    up = torch.zeros_like(there[-1])
    up[target] = 1
    down = up.clone()
    for depth in reversed(range(len(layers))):
        if isinstance(layers[depth], nn.ReLU):
            up = torch.tensor([m * a / b if b else 0.0 for m, a, b in _triples(up, rises[depth + 1], rises[depth])])
            down = torch.tensor([m * a / b if b else 0.0 for m, a, b in _triples(down, falls[depth + 1], falls[depth])])
            up, down = up.double(), down.double()
        else:
            weight = layers[depth].weight.detach()
            plus, minus = weight.clamp(min=0), weight.clamp(max=0)
            up, down = up @ plus + down @ minus, up @ minus + down @ plus
    return up * rises[0] + down * falls[0]


def _triples(a: Tensor, b: Tensor, c: Tensor) -> list[tuple[float, float, float]]:
    return list(zip(a.tolist(), b.tolist(), c.tolist(), strict=True))


def changed_relu_gradient(layers: list[nn.Module], sample: Tensor, target: int, guided: bool) -> Tensor:
    """DeconvNet and guided backpropagation on linear layers and ReLU, one sample."""
    activations = [sample]
    for layer in layers:
        activations.append(layer(activations[-1][None])[0])
    slope = torch.zeros_like(activations[-1])
    slope[target] = 1
    for layer, a in zip(reversed(layers), reversed(activations[:-1]), strict=True):
        if isinstance(layer, nn.ReLU):
            slope = slope.clamp(min=0) * (a > 0 if guided else 1)
        else:
            slope = (dense(layer, a.shape)[0] @ slope.flatten()).reshape(a.shape)
    return slope.detach()


def sobel(picture: Tensor) -> Tensor:
    """Gradient magnitude of (h, w), each pixel from its eight neighbours, those beyond the border repeated."""
    height, width = picture.shape

    def at(row: int, column: int) -> Tensor:
        return picture[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]

    strength = torch.zeros_like(picture)
    for i in range(height):
        for j in range(width):
            across = sum(k * (at(i + d, j + 1) - at(i + d, j - 1)) for d, k in ((-1, 1), (0, 2), (1, 1))) / 8
            down = sum(k * (at(i + 1, j + d) - at(i - 1, j + d)) for d, k in ((-1, 1), (0, 2), (1, 1))) / 8
            strength[i, j] = (across**2 + down**2) ** 0.5
    return strength


def occlusion(model: nn.Module, image: Tensor, target: int, window: int, stride: int, baseline: float) -> Tensor:
    """(h, w): mean drop of the output over the squares that cover a position, the last square cut at the border."""
    drops, counts = torch.zeros_like(image[0]), torch.zeros_like(image[0])
    for top in _starts(image.shape[1], window, stride):
        for left in _starts(image.shape[2], window, stride):
            square = (slice(top, top + window), slice(left, left + window))
            covered = image.clone()
            covered[:, *square] = baseline
            drops[square] += (model(image[None]) - model(covered[None]))[0, target].detach()
            counts[square] += 1
    return drops / counts


def _starts(side: int, window: int, stride: int) -> list[int]:
    return [step * stride for step in range(math.ceil((side - window) / stride) + 1)]


def removal(model: nn.Module, inputs: Tensor, maps: Tensor, fill: Tensor, shares: list[float], most: bool) -> Tensor:
    """Outputs (n, s, classes) with the first positions of maps (n, positions) replaced; no two values are equal."""
    rows = []
    for sample, values in zip(inputs, maps.flatten(1).tolist(), strict=True):
        order = sorted(range(len(values)), key=values.__getitem__, reverse=most)
        for share in shares:
            changed = sample.clone().reshape(-1, len(values))  # (c, positions)
            for position in order[: round(share * len(values))]:
                changed[:, position] = fill
            rows.append(model(changed.reshape(sample.shape)[None])[0].detach())
    return torch.stack(rows).unflatten(0, (len(inputs), len(shares)))


def guided_gradients(
    layers: list[nn.Module],
    inputs: Tensor,
    labels: Tensor,
    factor: float,
    rule: Rule,
    guided: Callable[[nn.Module], bool],
    start: str = "outputs",
) -> list[Tensor]:
    """Parameter gradients of the mean cross-entropy, guided: sample by sample, relevance first, then layer by layer."""
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    total = {parameter: torch.zeros_like(parameter) for parameter in parameters}
    output = [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    for sample, label in zip(inputs, labels, strict=True):
        cached, chances = _cached_relevance(layers, sample, int(label), rule, start)
        gradient = (chances - F.one_hot(label, len(chances))) / len(inputs)
        for layer, (a, relevance) in zip(reversed(layers), reversed(cached), strict=True):
            if isinstance(layer, nn.Linear | nn.Conv2d) and layer is not output and guided(layer):
                gradient = gradient * (1 + factor * relevance)
            point = a.detach().requires_grad_()
            own = list(layer.parameters())
            *of_own, below = torch.autograd.grad(layer(point[None])[0], [*own, point], gradient)
            for parameter, part in zip(own, of_own, strict=True):
                total[parameter] += part
            gradient = below
    return [total[parameter] for parameter in parameters]


def _cached_relevance(
    layers: list[nn.Module], sample: Tensor, label: int, rule: Rule, start: str
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """The inputs of every layer and the relevance of its outputs; and the probabilities."""
    activations = [sample]
    for layer in layers:
        activations.append(layer(activations[-1][None])[0].detach())
    chances = activations[-1].softmax(0)
    chosen = {"predicted": int(chances.argmax()), "label": label}.get(start, slice(None))
    relevance = torch.zeros_like(chances)
    relevance[chosen] = (activations[-1] if start == "outputs" else chances)[chosen]
    cached = []
    for layer, a in zip(reversed(layers), reversed(activations[:-1]), strict=True):
        cached.append((a, relevance.detach()))
        if isinstance(layer, nn.MaxPool2d):
            winners = F.max_pool2d(a, layer.kernel_size, layer.stride, return_indices=True)[1].flatten(1)
            relevance = torch.zeros_like(a).flatten(1).scatter_add(1, winners, relevance.reshape(winners.shape))
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            relevance = rule(a.flatten(), *dense(layer, a.shape), relevance.flatten())
        relevance = relevance.reshape(a.shape)
    return cached[::-1], chances


def imputed_exactly(image: Tensor, gone: Tensor) -> Tensor:
    """Every removed pixel of an image (c, h, w) is the weighted mean of its neighbours: one dense linear system."""
    height, width = gone.shape
    places = [divmod(place, width) for place in gone.flatten().nonzero().flatten().tolist()]
    number = {place: row for row, place in enumerate(places)}
    matrix, right = torch.zeros(len(places), len(places)).double(), torch.zeros(len(places), len(image)).double()
    for (y, x), row in number.items():
        for dy, dx in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
            if not (0 <= y + dy < height and 0 <= x + dx < width):
                continue
            weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
            matrix[row, row] += weight
            if (y + dy, x + dx) in number:
                matrix[row, number[y + dy, x + dx]] -= weight
            else:
                right[row] += weight * image[:, y + dy, x + dx]
    made = image.clone()
    made[:, gone] = torch.linalg.solve(matrix, right).t()
    return made
