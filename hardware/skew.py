"""Another clock's time in ours."""

import math

LEAK = 2e-4
"""By which the offset between two clocks may grow: crystals differ [s/s]."""
JUMP = 0.5
"""A stamp that is so far from where the clocks were is either false or the other clock has been set [s]."""
AGREE = 50
"""So many in a row are no mistake: the other clock has been set."""


class Skew:
    """A message takes time to come and none comes early, so the fastest one so far says how far two clocks are apart.

    Until a clock that was set is believed, its messages look as old, or as much from the future, as they say.
    """

    def __init__(self) -> None:
        self.offset, self.seen, self.odd = math.inf, -math.inf, 0

    def ours(self, theirs: float, now: float) -> float:
        """When a message was stamped [s], in our clock.

        Args:
            theirs: its stamp [s], in the sender's clock.
            now: when it came [s], in ours.
        """
        gap = now - theirs
        if not math.isfinite(self.offset):
            self.offset = gap
        self.offset += LEAK * min(max(now - self.seen, 0.0), 1.0)
        self.odd = self.odd + 1 if abs(gap - self.offset) > JUMP else 0
        if self.odd > AGREE:
            self.offset, self.odd = gap, 0
        elif not self.odd:
            self.offset = min(self.offset, gap)
        self.seen = now
        return theirs + self.offset
