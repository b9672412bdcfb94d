"""The command gate against adversaries: nothing outside the limits ever leaves, and the robot can always still stop."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import safety
from hardware.limits import Channel, Family, Limits, Safe
from robot.core.errors import ConfigError

ARM = Channel("joint", "rad", -2.8, 2.8, 2.6, 15.0, 500.0)


def limits(dt, *channels):
    return Limits(Family.joints, Safe.hold, dt, 0.1, 0.1, math.inf, [], list(channels), [], None, None, None)


def drive(channel, dt, wanted, start=0.0):
    """All commands (K,) that leave for what is wanted (K,), and the state after."""
    bounds = safety.bounds(limits(dt, channel))
    state, sent = safety.rest([start]), []
    for value in wanted:
        command, state, _ = safety.step(None if value is None else [value], state, bounds, dt)
        sent.append(command[0])
    return sent, state, bounds


def broken(sent, channel, dt, start=0.0):
    """The first command that breaks a limit by more than rounding, in words, or None."""
    q = [start] * 3 + sent
    for k in range(3, len(q)):
        v, a = (q[k] - q[k - 1]) / dt, (q[k] - 2 * q[k - 1] + q[k - 2]) / dt**2
        j = (q[k] - 3 * q[k - 1] + 3 * q[k - 2] - q[k - 3]) / dt**3
        if not channel.low <= q[k] <= channel.high:
            return f"{k}: value {q[k]}"
        if not abs(v) <= channel.rate * (1 + 1e-6):
            return f"{k}: rate {v}"
        if not abs(a) <= channel.rate2 * (1 + 1e-5) + 1e-13 / dt**2:
            return f"{k}: rate2 {a}"
        if not abs(j) <= channel.rate3 * (1 + 1e-4) + 1e-13 / dt**3:
            return f"{k}: rate3 {j}"
    return None


def adversary(rng, channel, dt, count):
    """What a bad policy may want: jumps, limits, infinities, nonsense, noise, waves, silence."""
    kind, centre, speed, wanted = 0, 0.0, 1.0, []
    for k in range(count):
        if rng.random() < 0.03:
            kind, speed = rng.randrange(8), 10 ** rng.uniform(-1, 2)
            centre = rng.uniform(channel.low * 1.5, channel.high * 1.5)
        wanted.append(
            [
                centre, rng.choice([channel.low, channel.high]), rng.choice([1e300, -1e300, math.inf]), math.nan, None,
                centre * math.sin(speed * k * dt), rng.uniform(channel.low, channel.high),
                centre + rng.gauss(0, channel.rate * dt),
            ][kind]
        )  # fmt: skip
    return wanted


def some_channel(rng):
    rate = 10 ** rng.uniform(-0.5, 1.2)
    rate2 = rate * 10 ** rng.uniform(0.3, 2)
    rate3 = rng.choice([math.inf, rate2 * 10 ** rng.uniform(0.3, 3)])
    low, high = rng.uniform(-3, -0.1), rng.uniform(0.1, 3)
    return rng.choice(
        [Channel("c", "rad", low, high, rate, rate2, rate3)] * 8
        + [Channel("c", "rad", low, high, rate, math.inf, math.inf), Channel("c", "rad", low, high, math.inf, math.inf, math.inf)]
    )


def attack(seed, count):
    """One adversary against one robot, and then it must stop."""
    rng = random.Random(seed)
    channel, dt = some_channel(rng), rng.choice([0.001, 0.002, 0.005, 0.01, 0.02])
    try:
        bounds = safety.bounds(limits(dt, channel))
    except ConfigError:
        return
    start = rng.uniform(bounds[0].low, bounds[0].high)
    wanted = adversary(rng, channel, dt, count)
    sent, state, _ = drive(channel, dt, wanted, start)
    stopping = 0
    while abs(state[0][1]) > 1e-9 or abs(state[0][2]) > 1e-9:
        command, state, _ = safety.step(None, state, bounds, dt)
        sent.append(command[0])
        stopping += 1
        assert stopping < 100_000, (seed, "never stops")
    assert broken(sent, channel, dt, start) is None, seed


def record(groups=12, seeds=8, count=250):
    """Weighted sums over what leaves for adversaries, and how often it is what was wanted: a fingerprint of the gate."""
    found = {}
    for group in range(groups):
        total, same_count = 0.0, 0
        for seed in range(group * seeds, (group + 1) * seeds):
            rng = random.Random(seed)
            channel, dt = some_channel(rng), rng.choice([0.001, 0.005, 0.02])
            try:
                bounds = safety.bounds(limits(dt, channel))
            except ConfigError:
                continue
            state = safety.rest([rng.uniform(bounds[0].low, bounds[0].high)])
            for value in adversary(rng, channel, dt, count):
                command, state, same = safety.step(None if value is None else [value], state, bounds, dt)
                total += rng.uniform(1, 2) * command[0] / max(abs(channel.low), channel.high)
                total += rng.uniform(1, 2) * sum(state[0][k] * dt**k for k in (1, 2))
                same_count += same
            total += bounds[0].reach * 1e-3 if bounds[0].order == 3 else 0.0
        found |= {f"group{group}/commands": round(total, 9), f"group{group}/same": same_count}
    return found


@pytest.mark.parametrize("seed", range(20))
def test_adversaries_break_no_limit_and_it_still_stops(seed):
    attack(seed, 1000)


@pytest.mark.slow
def test_a_million_commands_of_adversaries():
    for seed in range(1000, 2000):
        attack(seed, 1000)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=64)), min_size=1, max_size=60))
def test_no_list_of_floats_breaks_a_limit(wanted):
    sent, _, _ = drive(ARM, 0.002, wanted)
    assert broken(sent, ARM, 0.002) is None


@pytest.mark.parametrize(
    "channel", [ARM, Channel("joint", "rad", -2.8, 2.8, 2.6, 15.0, math.inf), Channel("v", "m/s", -1, 1, 3.0, math.inf, math.inf)]
)
def test_what_is_within_all_limits_passes_as_it_is(channel):
    dt = 0.002
    wanted = [0.9 * math.sin(1.5 * k * dt) ** 3 for k in range(3000)]
    sent, _, _ = drive(channel, dt, wanted)
    assert max(abs(a - b) for a, b in zip(sent, wanted, strict=True)) < 1e-9


def test_a_moving_target_is_caught_and_then_followed_exactly():
    dt = 0.002
    wanted = [math.sin(2 * k * dt + 1) for k in range(2000)]  # begins at a distance and at speed
    sent, _, _ = drive(ARM, dt, wanted)
    assert max(abs(a - b) for a, b in zip(sent[1000:], wanted[1000:], strict=True)) < 1e-9


@pytest.mark.parametrize("channel", [ARM, Channel("joint", "rad", -2.8, 2.8, 2.6, 15.0, math.inf)])
def test_a_jump_is_reached_without_overshoot_in_about_the_shortest_time(channel):
    dt = 0.002
    sent, state, _ = drive(channel, dt, [1.0] * 2000)
    assert state[0][:3] == pytest.approx((1.0, 0.0, 0.0), abs=1e-6)
    assert max(sent) < 1.0 + 1e-3
    arrived = next(k for k, value in enumerate(sent) if value > 0.999) * dt
    shortest = 1.0 / 2.6 + 2.6 / 15.0 + (15.0 / 500.0 if channel.rate3 < math.inf else 0.0)
    assert shortest - 0.05 < arrived < shortest + 0.05


def test_braking_takes_the_shortest_way():
    """From full speed: rate / rate2 + rate2 / rate3 seconds of jerk-limited braking."""
    dt = 0.002
    bounds = safety.bounds(limits(dt, ARM))
    state, ticks = ((0.0, 2.6, 0.0, 0.0, 2.6),), 0
    while abs(state[0][1]) > 1e-9:
        _, state, same = safety.step(None, state, bounds, dt)
        assert not same
        ticks += 1
    assert ticks * dt == pytest.approx(2.6 / 15 + 15 / 500, abs=0.01)
    assert state[0][0] == pytest.approx(2.6 / 2 * (2.6 / 15 + 15 / 500), abs=0.01)


def test_braking_distance_in_closed_form_is_that_of_the_integrated_profile():
    bound = safety.bounds(limits(0.002, ARM))[0]
    rng = random.Random(0)
    for _ in range(60):
        v, a = rng.uniform(-2.6, 2.6), rng.uniform(-15, 15)
        q, speed, dt, now = 0.0, v, 1e-5, a
        for _ in range(200_000):
            ahead = speed + now * abs(now) / (2 * bound.rate3)
            goal = -math.copysign(min(math.sqrt(2 * bound.rate3 * abs(speed)), bound.rate2), speed) if ahead * speed > 0 else 0.0
            goal = goal if abs(ahead) > 1e-4 else 0.0
            now += min(max(goal - now, -bound.rate3 * dt), bound.rate3 * dt)
            speed += now * dt
            q += speed * dt
            if abs(speed) < 2e-4 and abs(now) < 2e-2:
                break
        assert safety._travel(v, a, bound) == pytest.approx(q, abs=3e-3)


def test_the_same_flag_says_whether_it_is_what_was_wanted():
    bounds = safety.bounds(limits(0.01, ARM))
    _, state, same = safety.step([0.0], safety.rest([0.0]), bounds, 0.01)
    assert same
    _, state, same = safety.step([1.0], state, bounds, 0.01)
    assert not same
    _, _, same = safety.step([math.nan], state, bounds, 0.01)
    assert not same


def test_channels_do_not_know_of_each_other():
    rng = random.Random(4)
    dt, channels = 0.005, [some_channel(random.Random(k)) for k in (1, 2, 3)]
    wanted = [adversary(rng, c, dt, 300) for c in channels]
    bounds, state, together = safety.bounds(limits(dt, *channels)), safety.rest([0.0] * 3), []
    for row in zip(*wanted, strict=True):
        command, state, _ = safety.step([math.nan if x is None else x for x in row], state, bounds, dt)
        together.append(command)
    for k, channel in enumerate(channels):
        alone, _, _ = drive(channel, dt, wanted[k])
        assert [row[k] for row in together] == alone


def test_a_robot_that_stands_has_no_differences_and_bounds_do_not_change():
    assert safety.rest([0.25, -1]) == ((0.25, 0.0, 0.0, 0.25, 0.0), (-1.0, 0.0, 0.0, -1.0, 0.0))
    bound = safety.bounds(limits(0.01, ARM))[0]
    with pytest.raises(AttributeError):
        bound.rate = 99.0
    with pytest.raises(ValueError, match="zip"):
        safety.step([0.0, 0.0], safety.rest([0.0, 0.0]), [bound], 0.01)


@pytest.mark.parametrize(
    "channel", [ARM, Channel("c", "rad", -2.8, 2.8, 2.6, 15.0, math.inf), Channel("c", "m/s", -1, 1, 3.0, math.inf, math.inf)]
)
def test_what_braking_does_counts_as_what_was_wanted(channel):
    """Whoever is wanted again afterwards is met from where the channel is, at the speed it has."""
    dt = 0.01
    bounds = safety.bounds(limits(dt, channel))
    state = ((0.1, 0.6, 0.3, 0.7, 0.2),)
    for _ in range(5):
        command, state, same = safety.step(None, state, bounds, dt)
        assert not same
        assert state[0][0] == command[0]
        assert state[0][3] == pytest.approx(command[0], abs=1e-12)
        assert state[0][4] == pytest.approx(state[0][1], abs=1e-12)


def test_differences_in_the_state_are_those_of_the_commands():
    for seed in range(60):
        rng = random.Random(seed)
        channel, dt = some_channel(rng), rng.choice([0.001, 0.005, 0.02])
        try:
            bounds = safety.bounds(limits(dt, channel))
        except ConfigError:
            continue
        state = safety.rest([0.0])
        for value in adversary(rng, channel, dt, 200):
            before = state[0]
            command, state, _ = safety.step(None if value is None else [value], state, bounds, dt)
            if bounds[0].order >= 2:
                assert (command[0] - before[0]) / dt == pytest.approx(state[0][1], abs=1e-6 * (1 + channel.rate))
                assert (state[0][1] - before[1]) / dt == pytest.approx(state[0][2], abs=1e-6 * (1 + bounds[0].rate2))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_the_range_is_reached_and_kept_to_the_last_bit(order):
    rng = random.Random(order)
    for _ in range(60):
        low, high, dt = -rng.uniform(0.1, 1), rng.uniform(0.1, 1), rng.choice([0.003, 0.01, 0.07])
        rates = [rng.uniform(1, 9), rng.uniform(20, 90), rng.uniform(2000, 9000)]
        channel = Channel("c", "rad", low, high, *[rate if k < order else math.inf for k, rate in enumerate(rates)])
        try:
            bounds = safety.bounds(limits(dt, channel))
        except ConfigError:
            continue
        for side, end in ((1e300, high), (-1e300, low)):
            state = safety.rest([rng.uniform(bounds[0].low, bounds[0].high)])
            for _ in range(round(3 / dt)):
                command, state, _ = safety.step([side], state, bounds, dt)
                assert low <= command[0] <= high
            assert command[0] == pytest.approx(
                end, abs=0.0 if order < 2 else 1e-3 + (bounds[0].order == 3) * (bounds[0].low - low) * 2
            )


def test_at_the_very_end_of_the_range_there_is_no_speed_left():
    channel = Channel("c", "rad", -1.0, 1.0, 2.0, 20.0, math.inf)
    bounds = safety.bounds(limits(0.01, channel))
    for end in (-1.0, 1.0):
        command, state, _ = safety.step([2 * end], safety.rest([end]), bounds, 0.01)
        assert command == [end]
        assert state[0][:2] == (end, 0.0)


def test_which_derivatives_are_limited():
    half = Channel("c", "rad", -50.0, 50.0, 1.0, 1.0, 1.0)
    assert safety.bounds(limits(0.5, half))[0].order == 3  # a jerk that just fits into two periods
    assert safety.bounds(limits(0.501, half))[0].order == 2
    with pytest.raises(ConfigError, match="too narrow"):
        safety.bounds(limits(0.01, Channel("c", "rad", 0.5, 0.5, 1.0, math.inf, math.inf)))


def test_a_range_that_its_rates_fill_is_refused():
    with pytest.raises(ConfigError, match="too narrow"):
        safety.bounds(limits(0.02, Channel("c", "rad", 0.0, 1e-4, 1.0, 10.0, 200.0)))


ROUND = safety.bounds(limits(0.25, Channel("c", "rad", -1e4, 1e4, 1000.0, 64.0, 16.0)))[0]
"""Its jerk lasts 4 rad/s^2 a period; floats hold such numbers exactly, so that what happens on a limit can be said to the bit."""


def test_braking_ends_where_it_just_can():
    """At half a radian a second, -2 rad/s^2 is what stops within the period, and just what jerk permits."""
    assert safety._halted(-0.5, 6.0, ROUND, 0.25) == 2.0
    assert safety._halted(0.5, -6.0, ROUND, 0.25) == -2.0


def test_what_is_just_within_the_limits_passes_as_it_is():
    assert safety._third(0.0, 8.0, 0.0, 0.0, 0.0, 4.0, ROUND, 0.25, True) == 0.0
    assert safety._third(0.0, -8.0, 0.0, 0.0, 0.0, -4.0, ROUND, 0.25, True) == 0.0
    assert safety._third(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, ROUND, 0.25, False) == 0.0  # caught, just
    second = safety.bounds(limits(0.25, Channel("c", "rad", -1e4, 1e4, 1000.0, 4.0, math.inf)))[0]
    assert safety._second(0.5, 1.0, 0.0, 2.0, second, 0.25) == 2.0


def test_rounding_counts_as_the_same():
    slow = safety.bounds(limits(0.25, Channel("c", "rad", -1.0, 1.0, 1e-300, math.inf, math.inf)))
    assert safety.step([safety.EXACT], safety.rest([0.0]), slow, 0.25)[2]
    assert not safety.step([1.01 * safety.EXACT], safety.rest([0.0]), slow, 0.25)[2]
    followed = (safety.EXACT, 0.0, 0.0, 0.0, 100.0)  # as far from what was wanted as rounding permits
    command, _, same = safety.step([safety.EXACT], (followed,), [ROUND], 0.25)
    assert same
    assert command == [safety.EXACT]


def test_braking_may_end_on_the_limit():
    assert not safety._beyond(0.0, 1.0, 0.0, 1.0, 1000.0, ROUND, 0.25)
    assert safety._beyond(0.0, 1.0 + 1e-12, 0.0, 1.0, 1000.0, ROUND, 0.25)
    assert not safety._beyond(0.0, 1.0, -1.0, 1.0, 1000.0, ROUND, 0.25)  # on its way back
    assert safety._beyond(0.0, 1.0 + 1e-12, -1.0, 1.0, 1000.0, ROUND, 0.25)
    hard = safety.bounds(limits(0.5, Channel("c", "rad", -1e4, 1e4, 1000.0, 64.0, 6.0)))[0]
    assert not safety._beyond(-12.0, 0.5, 12.0, 4.0, 1000.0, hard, 0.5)  # it turns after a second on the curve, 4 rad on
    assert safety._beyond(-12.0, 0.5, 12.0, 4.0 - 1e-12, 1000.0, hard, 0.5)


def test_the_rate_may_be_reached_and_kept():
    rate = 1.5 - safety.EXACT  # 4 rad/s^2 for a period, then none as soon as jerk permits
    assert rate + safety.EXACT == 1.5
    assert not safety._beyond(4.0, 0.0, 0.0, 1e4, rate, ROUND, 0.25)
    assert safety._beyond(4.0, 0.0, 1e-12, 1e4, rate, ROUND, 0.25)
    assert not safety._beyond(0.0, 0.0, 5.0, 1e4, rate, ROUND, 0.25)  # not faster than it is


def test_there_is_no_way_to_go_where_there_is_no_room():
    assert safety._speed(0.0, 4.0, 0.25) == safety._speed(-1e-3, 4.0, 0.25) == safety._speed(-10.0, 4.0, 0.25) == 0.0
    assert safety._speed(0.75, 4.0, 0.25) == pytest.approx(4 * (math.sqrt(0.0625 + 0.375) - 0.25))
    assert safety._speed(0.75, math.inf, 0.25) == 3.0  # all of it within a period


def test_what_comes_to_rest_with_its_acceleration_goes_as_far_as_a_cubic():
    """Velocity -a^2 / 2j under acceleration a, which fades by jerk j: a^3 / 6j^2 backwards; rounding is no error."""
    rng, bound = random.Random(5), safety.bounds(limits(0.002, ARM))[0]
    for a in [8.0, *(rng.uniform(1.0, 15.0) for _ in range(20_000))]:
        for sign in (1, -1):
            way = safety._travel(-sign * a * a / (2 * bound.rate3), sign * a, bound)
            assert way == pytest.approx(-sign * a**3 / (6 * bound.rate3**2), rel=1e-5)
