"""Another clock's time in ours."""

import math

LEAK = 2e-4
"""By which the offset between two clocks may grow: crystals differ [s/s]."""


class Skew:
    """A message takes time to come and none comes early, so the fastest one so far says how far two clocks are apart."""

    def __init__(self) -> None:
        self.offset, self.seen = math.inf, -math.inf

    def ours(self, theirs: float, now: float) -> float:
        """When a message was stamped [s], in our clock.

        Args:
            theirs: its stamp [s], in the sender's clock.
            now: when it came [s], in ours.
        """
        if math.isfinite(self.offset):
            self.offset += LEAK * min(max(now - self.seen, 0.0), 1.0)
        self.seen, self.offset = now, min(self.offset, now - theirs)
        return theirs + self.offset
