"""How generators should be weighed in a composition, and whether they may be composed at all: from held-out data, no roll-outs.

The mean square error of a convex combination of fields is a convex quadratic of its weights (GPC, arXiv 2510.01068, section 3),
so their best values have a closed form at every flow time. The drawn noise minus the recorded chunk takes the place of the true
field: it differs from it by what no weights change.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.gpc import Gpc


@dataclass
class Fit:
    """What held-out data say of a composition.

    Attributes:
        times: (T,), flow times.
        gram: (T, P, P), mean products of the parents' errors in velocity.
        weights: (P,), best for all times together.
        levels: (T, P), best for each time.
        disagreement: (P, P), see `disagreement`.
    """

    times: Tensor
    gram: Tensor
    weights: Tensor
    levels: Tensor
    disagreement: Tensor

    def error(self, weights: Tensor) -> float:
        """Mean square error of weights (P,), or of weights by time (T, P), beyond that of the best of these levels."""
        best = torch.einsum("tp,tpq,tq->t", self.levels, self.gram, self.levels)
        weights = weights.expand_as(self.levels)
        return float((torch.einsum("tp,tpq,tq->t", weights, self.gram, weights) - best).mean())


@torch.no_grad()
def fit(gpc: Gpc, batch: dict[str, Tensor], steps: int, samples: int, generator: torch.Generator) -> Fit:
    """Weigh the parents of a composition.

    Args:
        gpc: the composition; its weights do not matter.
        batch: prepared inputs of B held-out frames, `action` (B, chunk, A) and `valid` (B, chunk).
        steps: flow times, spread evenly over (0, 1].
        samples: chunks of each parent that its disagreement is measured with.
        generator: of all randomness.
    """
    scene = gpc.encode(batch)
    clean = gpc.scaled(batch["action"].flatten(2), scene)
    valid = batch["valid"][..., None].clone()
    valid[:, min(parent.chunk for parent in gpc.members) :] = 0
    times = (torch.arange(steps) + 1) / steps
    grams = []
    for time in times.tolist():
        noise = torch.randn(clean.shape, generator=generator)
        voices = gpc.voices((1 - time) * clean + time * noise, torch.full((len(clean),), time), scene)
        errors = ((voices - (noise - clean)) * valid).flatten(1)
        grams.append(errors @ errors.T / (valid.sum() * clean.shape[-1]))
    gram = torch.stack(grams)
    levels = torch.stack([best_weights(g) for g in gram])
    apart = disagreement(drawn(gpc, batch, samples, generator))
    return Fit(times, gram, best_weights(gram.mean(0)), levels, apart)


def best_weights(gram: Tensor) -> Tensor:
    """Weights w (P,), not negative and with sum 1, of the smallest w' gram w; all supports of gram (P, P) are tried."""
    count, best, least = len(gram), torch.zeros(len(gram)), float("inf")
    gram = gram.double()
    for size in range(1, count + 1):
        for support in itertools.combinations(range(count), size):
            part = gram[list(support)][:, list(support)]
            ridge = 1e-12 * part.diagonal().mean() * torch.eye(size, dtype=part.dtype)
            solved = torch.linalg.solve(part + ridge, torch.ones(size, dtype=part.dtype))
            own = solved / solved.sum()
            value = float(own @ part @ own)
            if bool((own >= 0).all()) and value < least:
                least, best = value, torch.zeros(count).index_copy(0, torch.tensor(support), own.float())
    return best


@torch.no_grad()
def drawn(gpc: Gpc, batch: dict[str, Tensor], samples: int, generator: torch.Generator) -> Tensor:
    """What each parent alone would do: its own chunks (P, B, samples, D), as far as all parents reach."""
    reach = min(parent.chunk for parent in gpc.members)
    chunks = []
    for parent, scene in zip(gpc.members, gpc.scenes(gpc.encode(batch)), strict=True):
        noise = torch.randn(len(scene.condition), samples, *parent.noise_shape(), generator=generator)
        chunks.append(parent.draw(scene, noise)[:, :, :reach].flatten(2))
    return torch.stack(chunks)


def disagreement(chunks: Tensor) -> Tensor:
    """Normalised energy distance (Szekely and Rizzo, 2013) of every two parents' chunks (P, B, n, D) over B scenes: (P, P).

    0 where two parents draw from the same distribution in every scene, 1 where theirs have one point each and these differ.
    """
    count, n = chunks.shape[0], chunks.shape[2]
    between = torch.zeros(count, count)
    for i in range(count):
        for j in range(count):
            apart = torch.cdist(chunks[i], chunks[j])
            between[i, j] = apart.sum() / (len(apart) * (n * (n - 1) if i == j else n * n))
    own = between.diagonal()
    energy = 2 * between - own[:, None] - own[None]
    return (energy / (2 * between).clamp_min(1e-9)).clamp_min(0).fill_diagonal_(0)
