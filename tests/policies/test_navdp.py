"""NavDP: the published sizes, the critic's target by hand, learning on a toy, the exported graph."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from policies import navdp_critic as critic
from policies import onnx
from policies.generative import Generative, GenerativeConfig, Kind, Prediction, Times
from robot.core.config import build, typed
from robot.core.errors import CheckpointError, ConfigError
from robot.core.paths import CONFIGS
from sim.navigation.config import NavigationConfig, interface


def make(*overrides: str, policy: str = "navdp"):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("train", [f"policy={policy}", *overrides])
    flow = interface(typed(NavigationConfig, cfg.env, "env"))
    return build(cfg.policy, "policy", interface=flow)


SMALL = ("policy.width=32", "policy.hidden=64", "policy.fusion_hidden=64", "policy.layers=2", "policy.candidates=4")


def count(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_paper_preset_has_the_published_sizes():
    """88.4 M for the point-goal path: two ViT-S 44.0, fusion 6.5, decoder 37.9; memory of 1 + 3 + 128 tokens."""
    policy = make(policy="navdp_paper").eval()
    assert count(policy.depth_encoder) + count(policy.rgb_encoder) == pytest.approx(44.0, rel=0.01)
    fusion = (
        count(policy.fusion) + (policy.fusion_query.numel() + policy.fusion_position.numel()) / 1e6 + count(policy.fusion_out)
    )
    assert fusion == pytest.approx(6.5, rel=0.03)
    assert count(policy.decoder) == pytest.approx(37.9, rel=0.01)
    assert count(policy) - count(policy.goal_image_encoder) == pytest.approx(88.4, rel=0.01)
    assert policy.fusion_position.shape == (1, 9 * 256, 384)
    assert not any(p.requires_grad for p in policy.rgb_encoder.parameters())
    seen = {}
    policy.decoder.register_forward_pre_hook(lambda _, args: seen.update(memory=args[1][0][0].shape[2]))
    observation = onnx.example(policy.interface, 1)
    with torch.no_grad():
        plan = policy.plan(observation, policy.initial_memory(1))
    assert seen["memory"] + 1 == 132
    assert plan.candidates.shape == (1, 16, 24, 3)
    assert plan.memory["rgb_history"].shape == (1, 8, 3, 224, 224)


def test_values_of_paths_by_hand():
    """A wall at x = 2 m, the goal beyond it: the target sees clearance x_wall - x and cost-to-go -x."""
    config = critic.CriticConfig(critic.Target.progress, False, True, 1.0, 0.15, 0.5, 1.0, 0.25, 0.125)
    rows = ((torch.arange(64) - 31.5) * 0.125)[:, None].expand(64, 64)
    batch = {"clearance": (2.0 - rows).clamp(min=0)[None], "cost": -rows[None], "robot": torch.full((1, 11), 0.25)}
    step = 1.0 / 24
    paths = torch.zeros(1, 3, 24, 3)
    paths[0, 0, :, 0] = step  # 1 m forward, free
    paths[0, 1, :, 0] = 3 * step  # 3 m forward, through the wall
    paths[0, 2, :, 1] = step  # sideways: no progress, no risk
    value = critic.path_values(config, paths, batch, torch.tensor([True]))[0]
    assert float(value[0]) == pytest.approx(1.0 / 3.84, abs=0.01)
    free = np.floor(1.75 / 0.125) / 24  # waypoints before clearance falls under the radius
    gained = 1.75 / 3.84
    assert float(value[1]) == pytest.approx(gained - (1 - free), abs=0.08)
    assert float(value[2]) == pytest.approx(0.0, abs=0.01)
    blind = critic.path_values(config, paths, batch, torch.tensor([False]))[0]
    assert float(blind[2]) == pytest.approx(1.0 / 3.84, abs=0.01), "without a goal, distance covered is progress"


def test_paper_target_telescopes():
    config = critic.CriticConfig(critic.Target.paper, True, False, 1.0, 0.5, 0.5, 5.0, 0.0, 0.125)
    rows = ((torch.arange(64) - 31.5) * 0.125)[:, None].expand(64, 64)
    batch = {"clearance": (rows + 1.0)[None]}
    paths = torch.zeros(1, 1, 24, 3)
    paths[..., 0] = 0.1
    value = critic.path_values(config, paths, batch, torch.tensor([True]))
    assert float(value) == pytest.approx(0.5 * 2.3, abs=1e-4)
    paths[..., 0] = -0.1  # d falls from 0.9 to -1.4, below 0.5 from the sixth waypoint on
    assert float(critic.path_values(config, paths, batch, torch.tensor([True]))) == pytest.approx(
        -0.5 * 2.3 - 5 * 19.5 / 24, abs=0.15
    )


def test_rotation_keeps_lengths():
    action = torch.randn(5, 24, 3)
    turned = critic.rotated(action, 1.0)
    torch.testing.assert_close(turned[..., :2].norm(dim=-1), action[..., :2].norm(dim=-1))
    assert not torch.allclose(turned[..., 0], action[..., 0])


def test_closeness_by_hand():
    """Room of x metres at x: the first four waypoints, 0.1 m apart, miss 0.75, 0.5, 0.25 and none of a margin of 0.4 m."""
    caution = critic.CautionConfig(weight=2.0, margin=0.4, waypoints=4)
    rows = ((torch.arange(64) - 31.5) * 0.05)[:, None].expand(64, 64)
    paths = torch.zeros(1, 2, 24, 3)
    paths[0, 0, :, 0] = 0.1
    paths[0, 1, :, 0] = -0.1
    penalty = critic.closeness(caution, paths, rows[None, None], 0.05)[0]
    assert float(penalty[0]) == pytest.approx(2 * 1.5 / 4, abs=1e-5)
    assert float(penalty[1]) == pytest.approx(2 * (1.25 + 1.5 + 1.75 + 2.0) / 4, abs=1e-5), "in contact it goes on growing"


def test_caution_turns_the_choice_away_from_a_wall():
    observation = onnx.example(make(*SMALL).interface, 1)
    observation["robot"] = torch.tensor([[0.25, 0.45, 0.3, 0.0, 1.5708, 0.8, 1.5, 1.0, 4.0, 0.0, 0.0]])
    observation["odometry"], observation["depth"] = torch.zeros(1, 3), torch.full((1, 48, 64), 0.6)
    plans = {}
    for weight in (0.0, 100.0):
        torch.manual_seed(3)
        policy = make(*SMALL, f"policy.caution.weight={weight}").eval()
        noise = torch.randn(1, *policy.noise_shape(), generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            plans[weight] = policy.plan(observation, policy.initial_memory(1), noise)
    torch.testing.assert_close(plans[0.0].candidates, plans[100.0].candidates)
    penalty = plans[0.0].values - plans[100.0].values
    chosen = plans[100.0].values.argmax()
    assert float(penalty[0, chosen]) == pytest.approx(float(penalty.min()), abs=1.0)
    assert float(penalty.max()) > 1.0


@pytest.mark.parametrize("kind", list(Kind))
def test_loss_falls_on_a_fixed_batch_and_the_critic_orders_paths(kind: Kind):
    torch.manual_seed(0)
    policy = make(*SMALL, f"policy.generative.kind={kind.value}")
    batch = _toy(policy, 16)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    history = []
    for _ in range(30):
        torch.manual_seed(1)
        losses = policy.loss(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["loss"].detach()))
    assert history[-1] < 0.6 * history[0]


def _toy(policy, n: int) -> dict[str, torch.Tensor]:
    observation = onnx.example(policy.interface, n)
    observation["goal_given"] = torch.tensor([1.0, 0.0]).repeat(n, 1)
    inputs, _ = policy.prepare(observation, policy.initial_memory(n))
    action = torch.zeros(n, 24, 3)
    action[..., 0] = 0.1
    maps = {"clearance": torch.rand(n, 64, 64) * 2, "cost": torch.randn(n, 64, 64)}
    return {**inputs, **maps, "action": action, "proposals": torch.randn(n, 2, 24, 3) * 0.1}


def test_a_plan_depends_on_its_noise_alone_and_memory_is_explicit():
    policy = make(*SMALL).eval()
    observation, memory = onnx.example(policy.interface, 4), policy.initial_memory(4)
    before = {k: v.clone() for k, v in memory.items()}
    noise = torch.randn(4, *policy.noise_shape())
    with torch.no_grad():
        a, b = policy.plan(observation, memory, noise), policy.plan(observation, memory, noise)
        single = policy.plan({k: v[1:2] for k, v in observation.items()}, policy.initial_memory(1), noise[1:2])
    torch.testing.assert_close(a.actions, b.actions, rtol=0, atol=0)
    torch.testing.assert_close(single.candidates, a.candidates[1:2], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(memory[k], before[k]) for k in memory)
    best = a.values.argmax(1)
    torch.testing.assert_close(a.actions[:, 0], a.candidates[torch.arange(4), best])


def test_the_map_remembers_a_wall_that_left_the_view():
    policy = make(*SMALL).eval()
    observation = onnx.example(policy.interface, 1)
    observation["robot"] = torch.tensor([[0.25, 0.45, 0.3, 0.0, 1.5708, 0.8, 1.5, 1.0, 4.0, 0.0, 0.0]])
    observation["odometry"] = torch.zeros(1, 3)
    observation["depth"] = torch.full((1, 48, 64), 2.0)
    views, memory = policy.map.update(policy.initial_memory(1), observation)
    view = views["view"]

    def around(view: torch.Tensor, channel: int, ahead: float) -> float:
        row = round(ahead / 0.1 + 31.5)
        return float(view[0, channel, row - 1 : row + 2, 31:33].max())

    assert around(view, 0, 2.0) > 0.3
    assert around(view, 1, 1.0) > 0.9
    assert around(view, 2, 0.0) == pytest.approx(1.0)
    observation["odometry"] = torch.tensor([[0.0, 0.0, torch.pi]])
    observation["depth"] = torch.zeros(1, 48, 64)
    view = policy.map.update(memory, observation)[0]["view"]
    assert around(view, 0, -2.0) > 0.3, "after half a turn the wall is behind"
    assert around(view, 0, 2.0) < 0.1


def test_diffusion_sampling_equals_the_scheduler_of_diffusers():
    config = GenerativeConfig(Kind.diffusion, 10, 5, 4.0, False, Times.uniform, Prediction.epsilon)
    generative = Generative.of(config)
    noise = torch.randn(3, 24, 3)
    network = lambda x, t: 0.3 * x + t[:, None, None]  # noqa: E731
    x = noise
    for step in generative.scheduler.timesteps:
        output = network(x, torch.full((3,), float(step) / 10))
        x = generative.scheduler.step(output, int(step), x, eta=0.0, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(generative.sample(network, noise), x, rtol=1e-4, atol=1e-4)


def test_flow_with_the_true_field_transports_noise_to_data_in_one_step():
    data = torch.randn(5, 24, 3)
    flow = Generative.of(GenerativeConfig(Kind.flow, 10, 1, 4.0, False, Times.uniform, Prediction.epsilon))
    noise = torch.randn_like(data)
    torch.testing.assert_close(flow.sample(lambda x, t: noise - data, noise), data)
    x, target = flow.corrupt(data, noise, torch.full((5,), 0.3))
    torch.testing.assert_close(flow.recover(x, target, torch.full((5,), 0.3)), data)


def test_a_patch_that_does_not_divide_the_horizon_is_refused():
    with pytest.raises(ConfigError, match=r"policy.look_up and policy.caution .* set look_up=false"):
        make("policy.map=null")
    with pytest.raises(ConfigError, match=r"policy.critic_loss=0 .* set policy.choose=false"):
        make("policy.critic_loss=0")
    with pytest.raises(ConfigError, match=r"patch=5 must divide the horizon 24"):
        make("policy.patch=5")


def test_a_file_that_is_no_policy_is_refused(tmp_path):
    (tmp_path / "policy.onnx").write_bytes(b"not onnx")
    with pytest.raises(CheckpointError, match="not a readable ONNX policy"):
        onnx.OnnxPolicy(onnx.OnnxConfig(str(tmp_path), 1))
