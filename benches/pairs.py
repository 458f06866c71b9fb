"""Comparing two things that are measured in turns: the ratio of each pair, their median, and how sure that is."""

import math
import random
import statistics

RESAMPLES = 4000
# A benchmark says the same of the same figures.
SEED = 20260101


def turns(pairs):
    """Which of the two comes when: A B B A, B A A B and so on, so that a drift of the host favours neither."""
    order = []
    for index in range(pairs):
        quad = ("a", "b", "b", "a") if index % 2 == 0 else ("b", "a", "a", "b")
        order.extend(quad)
    return order


def ratios(order, figures):
    """a / b of each four turns, from the geometric mean of its two and two."""
    found = []
    for start in range(0, len(order), 4):
        logs = {"a": 0.0, "b": 0.0}
        for who, figure in zip(order[start:start + 4], figures[start:start + 4]):
            logs[who] += math.log(figure) / 2
        found.append(math.exp(logs["a"] - logs["b"]))
    return found


def interval(values):
    """95 % confidence interval of the median, by bootstrap."""
    draw = random.Random(SEED)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975) - 1]


def told(values):
    """For people."""
    low, high = interval(values)
    return f"{statistics.median(values):.3f} (95 % {low:.3f} to {high:.3f}; {len(values)} of 4 turns)"
