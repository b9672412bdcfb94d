"""A policy's generator without its critic: what the critic's choice is compared with."""

from torch import Tensor, nn

from policies.policy import Memory, Observation, Plan, Policy


class RandomCandidate(Policy):
    """Drives the first candidate of the policy it holds, which is a random one as candidates are independent samples."""

    def __init__(self, policy: Policy) -> None:
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
