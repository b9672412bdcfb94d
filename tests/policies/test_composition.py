"""Weights of a composition against brute force, and disagreement against distributions that are known."""

import itertools
import math

import pytest
import torch

from policies.composition import best_weights, disagreement, fit
from policies.generator import Generator, Scene
from policies.gpc import Gpc, GpcConfig, Operator
from robot.core.interface import Field, Interface

TOY = Interface((Field("point", (2,)),), Field("push", (2,)), 0.1)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_the_best_of_a_grid(count, seed):
    torch.manual_seed(seed)
    errors = torch.randn(count, 6) + torch.randn(6)
    gram = errors @ errors.T
    grid = [torch.tensor(w) / 50 for w in itertools.product(range(51), repeat=count) if sum(w) == 50]
    best = min(float(w @ gram @ w) for w in grid)
    found = best_weights(gram)
    assert float(found.sum()) == pytest.approx(1)
    assert float(found.min()) >= 0
    assert best * 0.97 <= float(found @ gram @ found) <= best + 1e-5


def test_independent_errors_are_weighed_by_their_inverse_variances():
    gram = torch.diag(torch.tensor([1.0, 4.0, 2.0]))
    torch.testing.assert_close(best_weights(gram), torch.tensor([4.0, 1.0, 2.0]) / 7)


def test_a_parent_that_is_worse_in_the_same_way_gets_nothing():
    gram = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    torch.testing.assert_close(best_weights(gram), torch.tensor([1.0, 0.0]))


class Known(Generator):
    """The exact field of chunks that are normal around `middle` of the point, off by a constant."""

    def __init__(self, off: float, middle: float = 1.0, chunk: int = 3) -> None:
        super().__init__(TOY)
        self.chunk, self.execute, self.condition_size = chunk, 1, 2
        self.register_buffer("scale", torch.ones(2))
        self.off, self.middle = off, middle

    def prepare(self, observation, memory):
        return {"condition": observation["point"], "anchor": torch.zeros(len(observation["point"]), 2)}, {}

    def encode(self, inputs):
        return Scene(inputs["condition"], inputs["anchor"][:, None])

    def velocity(self, x, t, scene):
        mean, t = self.middle * scene.condition[:, None], t[:, None, None]
        variance = t**2 + (0.5 * (1 - t)) ** 2
        gap = x - (1 - t) * mean
        return t / variance * gap - (mean + 0.25 * (1 - t) / variance * gap) + self.off

    def times(self):
        return torch.linspace(1, 0, 5)

    def flow_to(self, noise, scene):
        return self.middle * scene.condition[:, None] + 0.5 * noise + self.off


def composed(monkeypatch, *parents):
    monkeypatch.setattr("policies.gpc.hold", lambda given, where, interface, env: given)
    return Gpc(GpcConfig(list(parents), [1.0] * len(parents), None, Operator.convex, 1.0, 4, 1.0, 1), TOY)


def held_out(count=4000):
    torch.manual_seed(3)
    point = torch.randn(count, 2)
    action = point[:, None] + 0.5 * torch.randn(count, 3, 2)
    return {
        "p0_condition": point, "p0_anchor": torch.zeros(count, 2), "p1_condition": point, "p1_anchor": torch.zeros(count, 2),
        "action": action, "valid": torch.ones(count, 3),
    }  # fmt: skip


def test_held_out_data_find_weights_whose_errors_cancel(monkeypatch):
    found = fit(composed(monkeypatch, Known(0.3), Known(-0.1)), held_out(), 5, 4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.weights, torch.tensor([0.25, 0.75]), atol=0.05, rtol=0)
    assert found.error(torch.tensor([1.0, 0.0])) == pytest.approx(0.09, abs=0.02)
    assert found.error(found.weights) < 2e-3
    torch.testing.assert_close(found.times, torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0]))


def test_frames_beyond_an_episode_and_beyond_a_parents_chunk_do_not_count(monkeypatch):
    batch = held_out(500)
    batch["action"][:250, 1:], batch["valid"][:250, 1:] = 1e3, 0
    batch["action"][:, 2] = -1e3
    found = fit(composed(monkeypatch, Known(0.3), Known(-0.1, chunk=2)), batch, 5, 4, torch.Generator().manual_seed(0))
    assert float(found.gram.max()) < 5


def test_parents_of_other_behaviour_disagree(monkeypatch):
    same, other = (
        fit(composed(monkeypatch, Known(0.0), second), held_out(), 2, 8, torch.Generator().manual_seed(0)).disagreement
        for second in (Known(0.0), Known(0.0, -1.0))
    )
    assert float(same.max()) < 0.01
    assert float(other.max()) > 0.3


def test_disagreement_is_0_for_equal_distributions_1_for_two_points_and_grows_with_distance():
    torch.manual_seed(0)
    chunks = torch.randn(2, 200, 16, 4)
    assert float(disagreement(chunks)[0, 1]) < 0.005
    points = torch.zeros(2, 5, 3, 4)
    points[1] = 1.0
    torch.testing.assert_close(disagreement(points), 1 - torch.eye(2))
    shift = [float(disagreement(chunks + d * torch.arange(2.0)[:, None, None, None])[0, 1]) for d in (0.5, 1.0, 2.0)]
    assert shift == sorted(shift)
    mean = math.gamma(2.5) / math.gamma(2.0) * 2  # of the distance between two normal points in four dimensions
    between = torch.cdist(chunks[0], chunks[1]).mean()
    assert float(between) == pytest.approx(mean, rel=0.01)
