"""NavDP (arXiv 2505.08712): a diffusion policy over waypoints and a critic that share one transformer.

Depth, RGB history and the goals of all tasks become tokens; a transformer decoder denoises n paths of T waypoints
(dx, dy, dtheta) over one shared memory; the same decoder values them and the best is driven. Beyond the paper, each by
config: a rolling local map as memory, the body's clearance in that map looked up along every path, the robot's body as a
token, rectified flow, a critic trained on the policy's own samples and on progress along the true cost-to-go.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.generative import Generative, GenerativeConfig
from policies.navdp_critic import CautionConfig, CriticConfig, closeness, path_values, positions, rotated
from policies.nn.encoders import ConvTokens, ViT, square
from policies.nn.local_map import CLEARANCE, FREE, SOLID, LocalMap, LocalMapConfig, look_up
from policies.nn.transformer import Decoder, DecoderLayer, EncoderLayer, sinusoid
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import ConfigError
from robot.core.interface import Interface

Inputs = dict[str, Tensor]


class Scene(NamedTuple):
    """What paths are generated and valued in, computed once for all of them."""

    condition: list[tuple[Tensor, Tensor]]
    """Keys and values of the memory tokens, a pair a layer of the decoder."""
    goals: int
    """How many of the memory tokens, in front, tell of goals."""
    views: tuple[tuple[Tensor, float], ...]
    """Robot-centred views (B, C, V, V) to look up waypoints in, each with its cell size [m]."""


class Encoder(Enum):
    conv = "conv"
    vit = "vit"


@dataclass
class NavDPConfig:
    width: int
    """Width of all tokens."""
    heads: int
    """Attention heads."""
    layers: int
    """Layers of the decoder that policy and critic share."""
    hidden: int
    """Hidden width of the decoder's feed-forward parts."""
    dropout: float
    """Dropout in training."""
    patch: int
    """Successive waypoints joined in one trajectory token; the paper has 1."""
    causal: bool
    """Causal mask over trajectory tokens when denoising, as in the paper."""
    step_token: bool
    """Give the denoising time as a memory token (paper) instead of adding it to the trajectory tokens."""
    encoder: Encoder
    """conv: small, trained from scratch; vit: ViT-S/14 as in the paper."""
    image_size: int
    """Side of the square images a vit sees [px]; conv sees images as they are."""
    rgb_frames: int
    """RGB frames remembered, 0 for a policy without RGB."""
    map: LocalMapConfig | None
    """The rolling local map, or null to do without."""
    look_up: bool
    """Add what the local map says at a path's waypoints to the path's tokens."""
    goal_slots: int
    """Goal tokens; the paper repeats goals over 3 slots."""
    image_goal: bool
    """Whether image goals are understood."""
    robot_token: bool
    """Whether the robot's body is an input token."""
    fusion_queries: int
    """Learned queries that summarise the sensor tokens (paper: 128); 0 lets all tokens attend to each other."""
    fusion_layers: int
    """Layers of the fusion."""
    fusion_hidden: int
    """Hidden width of the fusion's feed-forward parts."""
    max_range: float
    """Depth scale [m]; farther readings count as no return."""
    scale: list[float]
    """Factors from waypoint deltas (m, m, rad) to unit size; the paper has 4."""
    candidates: int
    """Paths generated and valued at each decision."""
    caution: CautionConfig | None
    """What the local map alone says against a candidate, or null to trust the critic alone."""
    choose: bool
    """Drive the candidate the critic values highest; false takes the first, that is a random one."""
    noise_levels: int
    """Noise draws a sample in training, over one shared memory."""
    drop_goal: float
    """Share of training samples whose goal is hidden, which trains the no-goal task."""
    position_loss: float
    """Weight of the error of cumulated positions beside the generator's own loss."""
    critic_loss: float
    """Weight of the critic's loss; 0 trains none, which asks for choose=false."""
    generative: GenerativeConfig
    """How paths are drawn from noise."""
    critic: CriticConfig
    """What the critic is taught."""


class NavDP(Policy):
    def __init__(self, config: NavDPConfig, interface: Interface) -> None:
        super().__init__(interface)
        self.config = config
        self.horizon, self.action_size = interface.action.shape
        if self.horizon % config.patch or len(config.scale) != self.action_size:
            raise ConfigError(
                f"policy.patch={config.patch} must divide the horizon {self.horizon}; "
                f"policy.scale must have {self.action_size} values"
            )
        if config.choose and not config.critic_loss:
            raise ConfigError("policy.critic_loss=0 trains no critic to choose by: set policy.choose=false")
        if (config.look_up or config.caution) and not config.map:
            raise ConfigError(
                "policy.look_up and policy.caution read the local map: with policy.map=null set look_up=false, caution=null"
            )
        width = config.width
        self.generative = Generative.of(config.generative)
        self.register_buffer("scale", torch.tensor(config.scale), persistent=False)
        self.map = LocalMap(config.map, config.max_range) if config.map else None
        self._build_encoders(interface.field("depth").shape)
        layer = [DecoderLayer, EncoderLayer][config.fusion_queries == 0]
        self.fusion = nn.ModuleList(
            layer(width, config.heads, config.fusion_hidden, config.dropout) for _ in range(config.fusion_layers)
        )
        if config.fusion_queries:
            self.fusion_query = nn.Parameter(0.02 * torch.randn(1, config.fusion_queries, width))
            self.fusion_position = nn.Parameter(0.02 * torch.randn(1, self._sensor_tokens(), width))
            self.fusion_out = nn.Linear(width, width)
        self.embed = nn.Linear(self.action_size * config.patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, 1, self.horizon // config.patch, width))
        if config.look_up:
            self.feel = nn.Linear((3 + bool(config.map and config.map.near_cells)) * config.patch, width)
        self.decoder = Decoder(width, config.heads, config.layers, config.hidden, config.dropout)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.action_head = nn.Linear(width, self.action_size * config.patch)
        self.critic_mark = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.critic_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def _build_encoders(self, image: tuple[int, ...]) -> None:
        config, width = self.config, self.config.width
        vit, size = config.encoder is Encoder.vit, config.image_size
        stem = tuple(max(width // 2**k, 16) for k in (3, 2, 1, 0))
        self.depth_encoder = ViT(3, size, width) if vit else ConvTokens(1, (image[0], image[1]), stem)
        self.rgb_encoder = ViT(3, size, width) if config.rgb_frames else None
        if self.rgb_encoder is not None:
            self.rgb_encoder.requires_grad_(False)
        if config.map:
            self.map_encoder = ConvTokens(LocalMap.channels, (config.map.view_cells,) * 2, stem[1:])
        self.goal_encoder = nn.Linear(8, width)
        if config.image_goal:
            self.goal_image_encoder = ViT(6, size, width) if vit else ConvTokens(2, (image[0], image[1]), stem)
        self.no_goal = nn.Parameter(torch.zeros(1, 1, width))
        if config.robot_token:
            self.robot_encoder = nn.Sequential(nn.Linear(13, width), nn.SiLU(), nn.Linear(width, width))
            self.robot_mark = nn.Parameter(torch.zeros(1, 1, width))

    def _sensor_tokens(self) -> int:
        frames = self.config.rgb_frames * (self.rgb_encoder.tokens if self.rgb_encoder is not None else 0)
        return frames + self.depth_encoder.tokens + (self.map_encoder.tokens if self.map else 0)

    # Memory: the half of the policy without parameters

    def initial_memory(self, batch: int) -> Memory:
        memory = self.map.initial(batch) if self.map else {}
        if self.config.rgb_frames:
            size = self.config.image_size
            memory["rgb_history"] = torch.zeros(batch, self.config.rgb_frames, 3, size, size)
        return memory

    def noise_shape(self) -> tuple[int, ...]:
        return (self.config.candidates, self.horizon, self.action_size)

    def prepare(self, observation: Observation, memory: Memory) -> tuple[Inputs, Memory]:
        inputs = {name: observation[name] for name in ("goal", "goal_given", "velocity", "robot")}
        depth = observation["depth"]
        inputs["depth"] = torch.where(depth > self.config.max_range, 0.0, depth)
        if self.config.image_goal:
            inputs["goal_image"] = observation["goal_image"]
        after: Memory = {}
        if self.map:
            views, after = self.map.update(memory, observation)
            inputs.update(views)
        if self.config.rgb_frames:
            frame = square(observation["rgb"].permute(0, 3, 1, 2).float() / 255.0, self.config.image_size)
            mean, std = frame.new_tensor([0.485, 0.456, 0.406]), frame.new_tensor([0.229, 0.224, 0.225])
            frame = (frame - mean[:, None, None]) / std[:, None, None]
            after["rgb_history"] = inputs["rgb"] = torch.cat([memory["rgb_history"][:, 1:], frame[:, None]], dim=1)
        return inputs, after

    # The network

    def encode(self, inputs: Inputs) -> tuple[Tensor, int]:
        """Memory tokens (B, M, width) and how many of them, in front, tell of goals."""
        depth = inputs["depth"][:, None] / self.config.max_range
        vit = self.config.encoder is Encoder.vit
        image = square(depth, self.config.image_size).expand(-1, 3, -1, -1) if vit else depth
        sensors = [self.depth_encoder(image)]
        if self.rgb_encoder is not None:
            frames = self.rgb_encoder(inputs["rgb"].flatten(0, 1))
            sensors.insert(0, frames.unflatten(0, (-1, self.config.rgb_frames)).flatten(1, 2))
        if self.map:
            sensors.append(self.map_encoder(inputs["view"]))
        goals = self._goal_tokens(inputs, depth)
        front = [goals]
        if self.config.robot_token:
            body = torch.cat([inputs["robot"], inputs["velocity"]], dim=-1)
            front.append(self.robot_encoder(body)[:, None] + self.robot_mark)
        tokens = torch.cat(sensors, dim=1)
        if not self.config.fusion_queries:
            memory = torch.cat([*front, tokens], dim=1)
            for layer in self.fusion:
                memory = layer(memory)
            return memory, goals.shape[1]
        tokens = tokens + self.fusion_position
        x = self.fusion_query.expand(tokens.shape[0], -1, -1)[:, None]
        for layer in self.fusion:
            x = layer(x, *layer.cross_attention.project(tokens), False, None)
        return torch.cat([*front, self.fusion_out(x[:, 0])], dim=1), goals.shape[1]

    def _goal_tokens(self, inputs: Inputs, depth: Tensor) -> Tensor:
        given = inputs["goal_given"]
        point = self.goal_encoder(_goal_features(inputs["goal"]))[:, None]
        goals = torch.where(given[:, :1, None] > 0.5, point, self.no_goal)
        if self.config.image_goal:
            goals = torch.where(given[:, 1:, None] > 0.5, self._image_goal(inputs, depth), goals)
        return goals.expand(-1, self.config.goal_slots, -1)

    def _image_goal(self, inputs: Inputs, depth: Tensor) -> Tensor:
        """Tokens (B, 1, width) of image goals; in training only rows that have one are computed."""
        picture, given = inputs["goal_image"], inputs["goal_given"]
        if self.training:
            rows = torch.nonzero(given[:, 1] > 0.5).flatten()
            tokens = torch.zeros(len(given), 1, self.config.width)
            return tokens if len(rows) == 0 else tokens.index_copy(0, rows, self._encode_pair(picture[rows], depth[rows]))
        return self._encode_pair(picture, depth)

    def _encode_pair(self, picture: Tensor, depth: Tensor) -> Tensor:
        if self.config.encoder is Encoder.vit:
            pair = torch.cat([picture.permute(0, 3, 1, 2), depth.expand(-1, 3, -1, -1)], dim=1)
            return self.goal_image_encoder(square(pair, self.config.image_size)).mean(1, keepdim=True)
        pair = torch.cat([picture[:, None] / self.config.max_range, depth], dim=1)
        return self.goal_image_encoder(pair).mean(1, keepdim=True)

    def scene(self, inputs: Inputs) -> Scene:
        """The scene of prepared inputs."""
        tokens, goals = self.encode(inputs)
        views: tuple[tuple[Tensor, float], ...] = ()
        if self.config.map:
            names = [("view", self.config.map.view_resolution), ("near", self.config.map.resolution)]
            views = tuple((inputs[name], size) for name, size in names if name in inputs)
        return Scene(self.decoder.remember(tokens), goals, views)

    def _path_tokens(self, x: Tensor, scene: Scene, frozen: bool = False) -> Tensor:
        """Tokens (B, n, T / patch, width) of scaled paths x (B, n, T, A); `frozen` keeps their embedding from learning."""
        weight, bias = self.embed.weight, self.embed.bias
        if frozen:
            weight, bias = weight.detach(), bias.detach()
        tokens = F.linear(self._patches(x), weight, bias) + self.position
        if not self.config.look_up:
            return tokens
        points = positions(x / self.scale)
        seen = [look_up(view, points, size) for view, size in scene.views]
        seen[0] = seen[0][..., [SOLID, FREE, CLEARANCE]]
        return tokens + self.feel(self._patches(torch.cat(seen, dim=-1)))

    def _patches(self, x: Tensor) -> Tensor:
        """(B, n, T, C) to (B, n, T / patch, patch * C)."""
        return x.unflatten(2, (-1, self.config.patch)).flatten(3)

    def denoise(self, x: Tensor, t: Tensor, scene: Scene) -> Tensor:
        """The generator's network: scaled paths x (B, n, T, A) at times t (B, n); output like x."""
        tokens = self._path_tokens(x, scene)
        step = self.time(sinusoid(t.flatten(), self.config.width)).unflatten(0, t.shape)
        first = step[:, 0] if self.config.step_token else None
        if first is None:
            tokens = tokens + step[:, :, None]
        y = self.decoder(tokens, scene.condition, first, self.config.causal)
        return self.action_head(y).unflatten(3, (self.config.patch, -1)).flatten(2, 3)

    def value(self, x: Tensor, scene: Scene) -> Tensor:
        """Values (B, n) of scaled clean paths x (B, n, T, A)."""
        tokens = self._path_tokens(x, scene, frozen=True) + self.critic_mark
        mask = None
        if self.config.critic.goal_agnostic:
            length = scene.condition[0][0].shape[2]
            mask = torch.zeros(1, 1, 1, length, device=x.device)
            mask[..., : scene.goals] = -torch.inf
        return self.critic_head(self.decoder(tokens, scene.condition, mask=mask).mean(2))[..., 0]

    # What a policy does

    def decide(self, inputs: Inputs, memory: Memory, noise: Tensor | None = None) -> Plan:
        if noise is None:
            noise = torch.randn(inputs["goal"].shape[0], *self.noise_shape())
        scene = self.scene(inputs)
        x = self._generate(scene, noise)
        values, candidates = self.value(x, scene), x / self.scale
        if self.config.caution and self.config.map:
            view, resolution = scene.views[-1]
            values = values - closeness(self.config.caution, candidates, view[:, -1:] * self.config.map.reach, resolution)
        best = values.argmax(1) if self.config.choose else torch.zeros_like(values[:, 0], dtype=torch.long)
        chosen = torch.gather(candidates, 1, best[:, None, None, None].expand(-1, 1, *candidates.shape[2:]))
        return Plan(chosen, memory, candidates, values)

    def _generate(self, scene: Scene, noise: Tensor) -> Tensor:
        batch, n = noise.shape[:2]
        flat = self.generative.sample(
            lambda x, t: self.denoise(x.unflatten(0, (batch, n)), t.unflatten(0, (batch, n)), scene).flatten(0, 1),
            noise.flatten(0, 1),
        )
        return flat.unflatten(0, (batch, n))

    def sample(self, observation: Observation, n: int, noise: Tensor | None = None) -> Tensor:
        inputs, _ = self.prepare(observation, self.initial_memory(observation["goal"].shape[0]))
        if noise is None:
            noise = torch.randn(observation["goal"].shape[0], n, self.horizon, self.action_size)
        return self._generate(self.scene(inputs), noise) / self.scale

    def score(self, observation: Observation, candidates: Tensor) -> Tensor:
        inputs, _ = self.prepare(observation, self.initial_memory(observation["goal"].shape[0]))
        return self.value(candidates * self.scale, self.scene(inputs))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses on prepared inputs with expert paths.

        Args:
            batch: prepared inputs; `action` (B, T, A) the expert's path; `proposals` (B, m, T, A) the policy's own samples;
                `clearance` and `cost` (B, V, V), robot-centred crops as in `navdp_critic`.
        """
        config, action = self.config, batch["action"]
        given = batch["goal_given"] * (torch.rand(action.shape[0], 1) >= config.drop_goal)
        inputs = {**batch, "goal_given": given}
        scene = self.scene(inputs)
        clean = (action * self.scale)[:, None].expand(-1, config.noise_levels, -1, -1)
        flat = clean.flatten(0, 1)
        t = self.generative.times(len(flat)).to(flat)
        x, target = self.generative.corrupt(flat, torch.randn_like(flat), t)
        shape = clean.shape[:2]
        output = self.denoise(x.unflatten(0, shape), t.unflatten(0, shape), scene).flatten(0, 1)
        losses = {"generator": F.mse_loss(output, target)}
        recovered = self.generative.recover(x, output, t)
        error = positions(recovered / self.scale) - positions(flat / self.scale)
        losses["position"] = (error.abs() * (1 - t)[:, None, None]).mean()
        losses["loss"] = losses["generator"] + config.position_loss * losses["position"]
        if config.critic_loss:
            losses["critic"] = self._critic_loss(batch, given, scene)
            losses["loss"] = losses["loss"] + config.critic_loss * losses["critic"]
        return losses

    def _critic_loss(self, batch: dict[str, Tensor], given: Tensor, scene: Scene) -> Tensor:
        config = self.config.critic
        if "clearance" not in batch:
            raise ConfigError(
                "these data do not know the clearance that the critic is taught by; "
                "train without one: policy.critic_loss=0 policy.choose=false"
            )
        paths = [batch["action"][:, None], rotated(batch["action"], config.negative_angle)[:, None]]
        if config.own_samples:
            paths.append(batch["proposals"])
        candidates = torch.cat(paths, dim=1)
        with torch.no_grad():
            target = path_values(config, candidates, batch, given[:, 0] + given[:, 1] > 0.5)
        return F.mse_loss(self.value(candidates * self.scale, scene), target)

    def export(self) -> nn.Module:
        return Exported(self)


class Exported(nn.Module):
    """The whole decision as one graph: observation fields, noise and memory to path, candidates, values and memory."""

    def __init__(self, policy: NavDP) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: dict[str, Tensor], memory: Memory, noise: Tensor) -> dict[str, Tensor]:
        plan = self.policy.plan(observation, memory, noise)
        return {"action": plan.actions, "candidates": plan.candidates, "values": plan.values, **plan.memory}


def _goal_features(goal: Tensor) -> Tensor:
    """Features (B, 8) of a goal pose (B, 3): position near and far, bearing, heading; defined at the origin too."""
    xy = goal[:, :2]
    distance = torch.sqrt((xy * xy).sum(-1, keepdim=True) + 1e-6)
    near = xy / distance * distance.clamp(max=4.0) / 4.0
    return torch.cat([near, xy / distance, (1 + distance).log() / 3, distance / 10, goal[:, 2:].cos(), goal[:, 2:].sin()], dim=-1)
