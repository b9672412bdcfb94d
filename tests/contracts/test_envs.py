"""What every environment promises, for every yaml of configs/env."""

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

import sim.gym
from robot.core.errors import MissingExtraError, ObservationError
from sim.env import Env

Make = Callable[..., Env]
Observation = dict[str, Tensor]
WORLDS = 8


def action(env: Env, step: int) -> Tensor:
    """Actions (B, …) that depend on the step alone, the same for every world: small, and within the bounds."""
    field = env.interface.action
    one = 0.05 * torch.randn(field.shape, generator=torch.Generator().manual_seed(step))
    low, high = (bound if bound is not None else sign * torch.inf for bound, sign in ((field.low, -1), (field.high, 1)))
    return one.clamp(low, high).expand(env.num_envs, *field.shape)


def rollout(env: Env, steps: int) -> list[dict[str, Tensor]]:
    """What `steps` steps return: observation fields, reward, terminated and truncated by name."""
    seen = []
    for step in range(steps):
        observation, reward, terminated, truncated, _ = env.step(action(env, step))
        seen.append({**observation, "reward": reward, "terminated": terminated, "truncated": truncated})
    return seen


def same(a: dict[str, Tensor], b: dict[str, Tensor], rows: slice | list[int] = slice(None)) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name][rows], b[name][rows], rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_what_flows_is_what_the_interface_says(env_name: str, make_env: Make) -> None:
    env = make_env(env_name, 3)
    observation, _ = env.reset(seed=0)
    for step in rollout(env, 3):
        for field in env.interface.observation:
            value = step[field.name]
            assert tuple(value.shape) == (3, *field.shape), field.name
            assert str(value.dtype) == f"torch.{field.dtype}", field.name
            assert field.low is None or float(value.min()) >= field.low, field.name
            assert field.high is None or float(value.max()) <= field.high, field.name
        env.interface.check(step)
        assert step["reward"].shape == step["terminated"].shape == step["truncated"].shape == (3,)
        assert torch.isfinite(step["reward"]).all()
    assert list(observation) == list(env.interface.names)


def test_reward_is_the_sum_of_its_terms(env_name: str, make_env: Make) -> None:
    env = make_env(env_name, 3)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(action(env, 0))
    torch.testing.assert_close(reward, torch.stack(list(info["terms"].values())).sum(0))


def test_same_seed_same_numbers_and_another_seed_others(env_name: str, make_env: Make) -> None:
    env, twin = make_env(env_name, 3), make_env(env_name, 3)
    first, again = env.reset(seed=5)[0], twin.reset(seed=5)[0]
    same(first, again)
    for a, b in zip(rollout(env, 5), rollout(twin, 5), strict=True):
        same(a, b)
    same(first, env.reset(seed=5)[0])
    other = env.reset(seed=6)[0]
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_worlds_differ_and_none_depends_on_the_batch(env_name: str, make_env: Make) -> None:
    """Episode e of a run is the same in world e of many and, after e resets, in the only world of one."""
    many, one = make_env(env_name, WORLDS), make_env(env_name, 1)
    if getattr(many, "assigned", None) is not None:
        pytest.skip("a fleet is shared out among the worlds of a batch, for specialists that fly side by side")
    together = [many.reset(seed=2)[0], *rollout(many, 4)]
    assert any(not torch.equal(value[0], value[1]) for value in together[0].values())
    alone = one.reset(seed=2)[0]
    for world in range(WORLDS):
        played = [alone, *rollout(one, 4)]
        for a, b in zip(together, played, strict=True):
            same({name: value[world : world + 1] for name, value in a.items()}, b)
            if bool((b.get("terminated", torch.zeros(1)) + b.get("truncated", torch.zeros(1))).any()):
                break
        alone = one.reset(seed=2)[0] if world + 1 == WORLDS else _episode(one, world + 1)


def _episode(env: Env, number: int) -> Observation:
    env.reset(seed=2)
    env.episode[:] = number - 1
    return env.reset(mask=torch.ones(1, dtype=torch.bool))[0]


def test_reset_by_mask_touches_only_its_worlds(env_name: str, make_env: Make) -> None:
    env, twin = make_env(env_name, 4), make_env(env_name, 4)
    for each in (env, twin):
        each.reset(seed=1)
    before = rollout(env, 2)[-1]
    rollout(twin, 2)
    after, _ = env.reset(mask=torch.tensor([False, True, False, True]))
    same({name: before[name] for name in after}, after, [0, 2])
    assert any(not torch.equal(before[name][[1, 3]], after[name][[1, 3]]) for name in after)
    assert env.steps.tolist() == [2, 0, 2, 0]
    for a, b in zip(rollout(env, 2), rollout(twin, 2), strict=True):
        same(a, b, [0, 2])


def test_what_was_returned_never_changes_and_changing_it_changes_nothing(env_name: str, make_env: Make) -> None:
    env, twin = make_env(env_name, 2), make_env(env_name, 2)
    env.reset(seed=3)
    twin.reset(seed=3)
    kept = rollout(env, 1)[0]
    copies = {name: value.clone() for name, value in kept.items()}
    later = rollout(env, 2)[-1]
    same(kept, copies)
    for value in kept.values():
        value.zero_()
    rollout(twin, 1)
    rollout(twin, 2)
    same(env.reset(mask=torch.tensor([True, False]))[0], twin.reset(mask=torch.tensor([True, False]))[0])
    assert later


def test_time_runs_out_by_truncation_and_the_next_episode_begins(env_name: str, make_env: Make) -> None:
    env, twin = make_env(env_name, 3), make_env(env_name, 3)
    env.max_steps = 3
    env.reset(seed=4)
    twin.reset(seed=4)
    ended = torch.zeros(3, dtype=torch.bool)
    for step in range(3):
        observation, _, terminated, truncated, info = env.step(torch.zeros_like(action(env, step)))
        expected, _, over, _, extra = twin.step(torch.zeros_like(action(env, step)))
        assert not bool((terminated & truncated).any())
        assert torch.equal(info["done"], terminated | truncated)
        fresh = ~ended
        assert torch.equal(terminated[fresh], over[fresh])
        last = extra.get("final_obs", expected)
        if bool((info["done"] & fresh).any()):
            same(info["final_obs"], {n: torch.where(_column(over, v), last[n], v) for n, v in expected.items()}, fresh)
        ended |= info["done"]
    assert ended.all(), "max_steps passed and a world went on"
    assert {len(value) for value in info["final_info"].values()} <= {3}
    following = _next(make_env(env_name, 3))
    same(observation, following, ended & (env.episode == torch.arange(3) + 3))


def _column(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.ndim - 1))


def _next(env: Env) -> Observation:
    """The first observations of each world's second episode."""
    env.reset(seed=4)
    return env.reset(mask=torch.ones(3, dtype=torch.bool))[0]


def test_wrong_actions_are_refused_in_words(env_name: str, make_env: Make) -> None:
    env = make_env(env_name, 2)
    env.reset(seed=0)
    good = action(env, 0)
    with pytest.raises(ObservationError, match=rf"'{env.interface.action.name}' has shape.*expected"):
        env.step(good[:1])
    with pytest.raises(ObservationError, match="not finite"):
        env.step(torch.full_like(good, torch.nan))


@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning")
def test_gymnasium_accepts_it(env_name: str) -> None:
    try:
        env = gymnasium.make(f"tiller/{env_name}-v0", disable_env_checker=True).unwrapped
    except MissingExtraError as error:
        pytest.skip(str(error))
    check_env(env, skip_render_check=True, skip_close_check=True)
    vector = gymnasium.make_vec(f"tiller/{env_name}-v0", num_envs=2)
    observation, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(observation)
    assert all(isinstance(value, np.ndarray) for value in observation.values())


def test_every_yaml_has_an_id() -> None:
    assert {f"tiller/{name}-v0" for name in sim.gym.names()} <= set(gymnasium.registry)
