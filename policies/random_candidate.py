"""A policy's generator without its critic: what the critic's choice is compared with."""

from dataclasses import dataclass

from torch import Tensor, nn

from policies.onnx import OnnxConfig, OnnxPolicy
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import ConfigError


@dataclass
class RandomCandidateConfig:
    of: str | None
    """The exported policy to hold (a folder with policy.onnx); null holds the one that it is evaluated beside."""
    threads: int
    """Threads of onnxruntime for an exported one, 0 for all cores."""


class RandomCandidate(Policy):
    """Drives the first candidate of the policy it holds, which is a random one as candidates are independent samples."""

    def __init__(self, config: RandomCandidateConfig, policy: Policy | None = None) -> None:
        if config.of is not None:
            policy = OnnxPolicy(OnnxConfig(config.of, config.threads))
        if policy is None:
            raise ConfigError("policy.of: no policy to draw candidates from; give a folder such as assets/pretrained/navdp")
        super().__init__(policy.interface)
        self.policy = policy

    def initial_memory(self, batch: int) -> Memory:
        return self.policy.initial_memory(batch)

    def noise_shape(self) -> tuple[int, ...]:
        return self.policy.noise_shape()

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        plan = self.policy.plan(observation, memory, noise)
        if plan.candidates is None:
            return plan
        return Plan(plan.candidates[:, :1], plan.memory, plan.candidates, plan.values)

    def export(self) -> nn.Module:
        raise self._cannot("export")
