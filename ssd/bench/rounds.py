"""Timing in turns: A B C, B C A, C A B, ..., so that whatever else the machine does meets all alike."""

import time
from collections.abc import Callable, Mapping

import numpy as np

PAUSE = 0.02  # seconds: threads of the last one that wait by spinning have gone to sleep by then
MIN_ROUNDS = 3  # also where the time is up

Visit = Callable[[int], Mapping[str, float]]  # number of the round -> figures


def alternate(
    visits: Mapping[str, Visit],
    rounds: int,
    seconds: float | None = None,
    *,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> list[dict[str, Mapping[str, float]]]:
    """Call each in turn, in another order every round.

    Args:
        visits: name -> a call that measures something.
        rounds: at most this many.
        seconds: no round begins after this time, if three are done.
        warm_up: rounds before, not kept.
        clock, rest: for tests.
    Returns:
        one dict a round: name -> what its call returned.
    """
    names, done = list(visits), []
    for number in range(warm_up):
        for name in names:
            visits[name](number)
    started = clock()
    for number in range(rounds):
        if seconds and number >= MIN_ROUNDS and clock() - started >= seconds:
            break
        first = number % len(names)
        row = {}
        for name in names[first:] + names[:first]:
            rest(PAUSE)
            row[name] = visits[name](number)
        done.append(row)
    return done


def column(rounds: list[dict], name: str, figure: str) -> list[float]:
    """One figure of one contestant, round by round."""
    return [row[name][figure] for row in rounds]


def percentiles(values: list[float]) -> dict[str, float]:
    """{"p50", "p95"}, interpolated."""
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95)}


def spread(values: list[float]) -> dict[str, float]:
    """{"median", "q1", "q3", "min", "max"}."""
    points = np.percentile(values, (50, 25, 75, 0, 100))
    return dict(zip(("median", "q1", "q3", "min", "max"), map(float, points), strict=True))
