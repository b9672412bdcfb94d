"""The networks that denoise: published sizes, who depends on what, the exported sampler, learning."""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from policies.generative import Generative, GenerativeConfig, Kind, Prediction, Times
from policies.nn.denoisers import ChunkTransformer, ChunkTransformerConfig, Unet1d, Unet1dConfig
from robot.core.config import build
from robot.core.errors import ConfigError
from tests.contracts.conftest import composed

HORIZON, ACTION, CONDITION = 16, 2, 40
"""Diffusion Policy's PushT: chunks of 16, two frames of 20 numbers."""

SMALL = {
    "ResidualMlp": {"width": 64, "blocks": 2},
    "Unet1d": {"dims": [16, 32], "kernel": 5, "groups": 4, "step_embedding": 32},
    "ChunkTransformer": {"layers": 2, "heads": 2, "width": 32, "causal": True, "dropout": 0.0, "frames": 2},
}


def make(name: str, horizon: int = HORIZON, action: int = ACTION, condition: int = CONDITION, **keys: object) -> nn.Module:
    node = {"_target_": f"policies.nn.denoisers.{name}", **SMALL[name], **keys}
    return build(node, "policy.denoiser", horizon=horizon, action_size=action, condition_size=condition)


def shaken(net: nn.Module) -> nn.Module:
    """With no weight at zero, where a net that begins by saying nothing depends on nothing."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, HORIZON, ACTION, generator=generator)
    return x, torch.rand(batch, generator=generator), torch.randn(batch, CONDITION, generator=generator)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


# Sizes


def unet_size(dims: list[int], kernel: int, step: int, action: int, condition: int) -> int:
    """Parameters by the published description, counted by hand."""

    def block(a: int, b: int) -> int:
        film = (step + condition) * 2 * b + 2 * b
        skip = a * b + b if a != b else 0
        return conv(a, b, kernel) + conv(b, b, kernel) + 4 * b + film + skip

    def conv(a: int, b: int, k: int) -> int:
        return a * b * k + b

    time = step * 4 * step + 4 * step + 4 * step * step + step
    down = sum(block(a, b) + block(b, b) for a, b in zip([action, *dims[:-1]], dims, strict=True))
    middle = 2 * block(dims[-1], dims[-1])
    up = sum(block(2 * dims[k], dims[k - 1]) + block(dims[k - 1], dims[k - 1]) for k in range(1, len(dims)))
    resample = sum(conv(d, d, 3) + conv(d, d, 4) for d in dims[:-1])
    return time + down + middle + up + resample + conv(dims[0], dims[0], kernel) + 2 * dims[0] + dims[0] * action + action


@pytest.mark.parametrize(
    ("dims", "step", "condition", "published"),
    [([256, 512, 1024], 256, 40, 65.8e6), ([512, 1024, 2048], 128, 132, None)],
    ids=["states", "images"],
)
def test_unet_has_the_published_size(dims: list[int], step: int, condition: int, published: float | None) -> None:
    with torch.device("meta"):
        net = Unet1d(Unet1dConfig(dims, 5, 8, step), HORIZON, ACTION, condition)
    assert count(net) == unet_size(dims, 5, step, ACTION, condition)
    if published:
        assert count(net) == pytest.approx(published, rel=0.01)


def test_transformer_has_the_published_size() -> None:
    """Eight layers of two attentions (4 w^2 + 4 w each), a feed-forward part (8 w^2 + 5 w) and three norms: 8.42 M of 8.97 M."""
    w, config = 256, ChunkTransformerConfig(8, 4, 256, True, 0.01, 2)
    with torch.device("meta"):
        net = ChunkTransformer(config, HORIZON, ACTION, CONDITION)
    layers = 8 * (2 * (4 * w * w + 4 * w) + (8 * w * w + 5 * w) + 3 * 2 * w)
    ends = (ACTION * w + w) + (20 * w + w) + (8 * w * w + 5 * w) + 2 * w + (ACTION * w + ACTION)
    assert count(net) == layers + ends + (HORIZON + 3) * w
    assert count(net) == pytest.approx(8.97e6, rel=0.01)


@pytest.mark.parametrize(("preset", "published"), [("diffusion_unet", 65.8e6), ("diffusion_transformer", 8.97e6)])
def test_presets_have_the_published_sizes(preset: str, published: float) -> None:
    """At the published condition, two frames of twenty numbers."""
    with torch.device("meta"):
        net = build(
            composed(f"policy={preset}").policy.denoiser,
            "denoiser",
            horizon=HORIZON,
            action_size=ACTION,
            condition_size=CONDITION,
        )
    assert count(net) == pytest.approx(published, rel=0.01)


def test_mlp_is_small() -> None:
    assert count(make("ResidualMlp", width=256, blocks=3)) == pytest.approx(0.44e6, rel=0.02)


# What depends on what


@pytest.mark.parametrize("name", SMALL)
def test_every_row_depends_on_its_own_inputs_alone_and_on_all_of_them(name: str) -> None:
    net = shaken(make(name))
    x, t, condition = inputs(5)
    with torch.no_grad():
        y = net(x, t, condition)
        assert y.shape == (5, HORIZON, ACTION)
        torch.testing.assert_close(net(x[3:4], t[3:4], condition[3:4]), y[3:4], rtol=1e-4, atol=1e-5)
        for other in ((x.flip(0), t, condition), (x, t + 0.01, condition), (x, t, condition.flip(0))):
            assert float((net(*other) - y)[0].abs().max()) > 1e-3


def moves(gradient: Tensor) -> bool:
    """Whether anything of a vector, or something of every row of a matrix, is not zero."""
    return bool(gradient.any()) if gradient.ndim == 1 else bool(gradient.flatten(1).any(1).all())


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_weight_and_every_input(name: str) -> None:
    net = shaken(make(name))
    given = tuple(value.requires_grad_() for value in inputs(5))
    net(*given).square().mean().backward()
    still = [key for key, value in net.named_parameters() if value.grad is None or not moves(value.grad)]
    assert still == []
    x, t, condition = given
    assert all(value.grad is not None and bool((value.grad != 0).all()) for value in (x, t, condition))


def test_a_causal_chunk_sees_no_later_step() -> None:
    x, t, condition = inputs(2)
    changed = x.clone()
    changed[:, 9] += 1.0
    for causal in (True, False):
        net = shaken(make("ChunkTransformer", causal=causal))
        with torch.no_grad():
            moved = (net(changed, t, condition) - net(x, t, condition)).abs().amax((0, 2)) > 1e-5
        assert moved.tolist() == [k >= 9 or not causal for k in range(HORIZON)]


def test_a_net_that_begins_says_nothing() -> None:
    assert not make("ResidualMlp")(*inputs(3)).any()


@pytest.mark.parametrize(
    ("name", "horizon", "keys", "message"),
    [
        ("Unet1d", 18, {"dims": [8, 16, 32]}, r"policy.chunk=18 must be a multiple of 4: the 3 levels"),
        ("Unet1d", 16, {"dims": [10, 16]}, r"groups=4 must divide all of policy.denoiser.dims=\[10, 16\]"),
        ("Unet1d", 16, {"kernel": 4}, r"kernel=4 must be odd"),
        ("Unet1d", 16, {"dims": []}, r"dims=\[\] must name"),
        ("Unet1d", 16, {"step_embedding": 33}, r"step_embedding=33 must be even"),
        ("ChunkTransformer", 16, {"heads": 3}, r"width=32 .* multiple of policy.denoiser.heads=3"),
        ("ChunkTransformer", 16, {"frames": 3}, r"frames=3 must divide the condition of 40"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, horizon: int, keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, horizon, **keys)


# Export


class Sampler(nn.Module):
    """A whole sampler, its steps unrolled."""

    def __init__(self, process: Generative, net: nn.Module) -> None:
        super().__init__()
        self.process, self.net = process, net

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        return self.process.sample(lambda x, t: self.net(x, t, condition), noise)


class Field(nn.Module):
    def __init__(self, process: Generative, net: nn.Module) -> None:
        super().__init__()
        self.process, self.net = process, net

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.process.velocity(lambda x, t: self.net(x, t, condition), x, t)


def exported(module: nn.Module, given: tuple[Tensor, ...], file: Path) -> onnxruntime.InferenceSession:
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), given, input_names=[f"in{k}" for k in range(len(given))], output_names=["out"],
            dynamic_shapes=tuple({0: batch} for _ in given), opset_version=18, dynamo=True, verbose=False,
        )  # fmt: skip
    program.save(str(file), external_data=False)
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def gap(module: nn.Module, session: onnxruntime.InferenceSession, given: tuple[Tensor, ...]) -> float:
    feed = {f"in{k}": np.ascontiguousarray(value.numpy()) for k, value in enumerate(given)}
    with torch.no_grad():
        return float(np.abs(session.run(None, feed)[0] - module(*given).numpy()).max())


@pytest.mark.parametrize(
    ("name", "kind", "stochastic"),
    [
        *(pytest.param(name, Kind.flow, False, marks=[pytest.mark.slow] * (name != "ResidualMlp")) for name in SMALL),
        ("ResidualMlp", Kind.diffusion, True),
        ("ResidualMlp", Kind.mip, False),
    ],
)
def test_the_exported_sampler_agrees_with_torch(name: str, kind: Kind, stochastic: bool, tmp_path: Path) -> None:
    process = Generative.of(GenerativeConfig(kind, 10, 3, 1.0, stochastic, Times.uniform, Prediction.epsilon))
    module = Sampler(process, shaken(make(name)))
    draws = (process.draws,) if process.draws > 1 else ()

    def given(batch: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(batch)
        noise = torch.randn(batch, *draws, HORIZON, ACTION, generator=generator)
        return noise, torch.randn(batch, CONDITION, generator=generator)

    session = exported(module, given(2), tmp_path / "sampler.onnx")
    steepest = float(process.alphas[-1]) ** -0.5 if kind is Kind.diffusion else 1.0  # how a first step magnifies rounding
    assert max(gap(module, session, given(batch)) for batch in (1, 2, 5)) < max(1e-5, 5e-6 * steepest)


def test_the_exported_velocity_of_a_diffusion_agrees_with_torch(tmp_path: Path) -> None:
    process = Generative.of(GenerativeConfig(Kind.diffusion, 10, 3, 1.0, False, Times.uniform, Prediction.epsilon))
    module = Field(process, shaken(make("ResidualMlp")))
    session = exported(module, inputs(2), tmp_path / "field.onnx")
    assert gap(module, session, inputs(5)) < 1e-5


# Learning


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "ResidualMlp")) for name in SMALL])
def test_flow_finds_both_modes_and_the_condition(name: str) -> None:
    """Chunks of 4 that are +1 or -1 throughout where the condition is 1, and 0 where it is 0.

    Not causal: the field at a step then depends on all of the chunk, by which its steps agree on a mode.
    """
    torch.manual_seed(0)
    process = Generative.of(GenerativeConfig(Kind.flow, 10, 6, 2.0, False, Times.uniform, Prediction.epsilon))
    net = make(name, 4, 1, 2, **({"causal": False} if name == "ChunkTransformer" else {}))
    optimizer = torch.optim.Adam(net.parameters(), 4e-3)
    for _ in range(250):
        condition = torch.randint(2, (128, 1)).float().expand(-1, 2)
        clean = (torch.randint(2, (128, 1)) * 2.0 - 1) * condition[:, :1] + 0.05 * torch.randn(128, 4)
        t = process.times(128)
        x, target = process.corrupt(clean[..., None], torch.randn(128, 4, 1), t)
        loss = (net(x, t, condition) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    condition = torch.arange(400)[:, None].expand(-1, 2) % 2 * 1.0
    noise = torch.randn(400, 4, 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = process.sample(lambda x, t: net(x, t, condition), noise)[..., 0]
    split, single = x[1::2], x[::2]
    hit = ((split.abs() - 1).abs() < 0.4).all(1) & (split.sign().mean(1).abs() == 1)
    assert float(hit.float().mean()) > 0.8
    assert 0.3 < float((split.mean(1) > 0).float().mean()) < 0.7
    assert float((single.abs() < 0.4).float().mean()) > 0.9
