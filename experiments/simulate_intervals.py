"""How often the intervals of tables and studies hold the truth, and how often findings are wrong.

    python experiments/simulate_intervals.py                       # all, about fifteen minutes on one CPU core
    python experiments/simulate_intervals.py --only findings --trials 500

Everything is drawn from a known truth and goes through the functions that tables and studies use. docs/scoring.md and
docs/studies.md have the numbers of the defaults; a share of 0.95 over 2000 trials has a Monte-Carlo error of 0.005.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.stats import norm

from idlora_pl.cli.command import call
from idlora_pl.files import replacing
from idlora_pl.metrics.chance import CHANCE
from idlora_pl.metrics.lip_lag import lag_correlations, syllables
from idlora_pl.report.build import build_table
from idlora_pl.report.findings import Claim, finding
from idlora_pl.report.formats import sheet_markdown
from idlora_pl.report.sheet import Sheet, fitted
from idlora_pl.report.table import Column
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.statistics import clustered_interval, paired_difference
from idlora_pl.study.statistics import two_way_interval, two_way_p_value

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
Part = Literal["means", "shares", "seeds", "findings", "studies", "lags"]
PARTS: tuple[Part, ...] = ("means", "shares", "seeds", "findings", "studies", "lags")

HARD = (3, 2, 8, 6, 5, 7, 2, 2)
"""Clips by speaker of the hard split."""
LAYOUTS = {
    **{f"{k} x 4": (4,) * k for k in (2, 3, 4, 5, 6)},
    "8, hard split": HARD,
    **{f"{k} x 4": (4,) * k for k in (8, 12, 24)},
    "96 x 1": (1,) * 96,
}
SPEAKERS = (2, 3, 4, 5, 6, 8, 12, 24)
SHAPES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "log-normal": (lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5))),
}
MARGIN = 0.5


def names_of(counts: tuple[int, ...]) -> list[str]:
    """Return the speaker of each clip."""
    return [f"s{number:03d}" for number, n in enumerate(counts) for _ in range(n)]


def holds(ends: tuple[float | None, float | None] | None, truth: float) -> bool:
    """Say whether an interval holds the truth; one that is not given does not count as wrong."""
    low, high = ends or (None, None)
    return low is None or high is None or low <= truth <= high


def means(trials: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Coverage of the mean of scores whose speakers and clips scatter alike."""
    yield ("speakers x clips", *SHAPES)
    for layout, counts in track(LAYOUTS.items(), "means"):
        shares = []
        for shape, (_, mean) in SHAPES.items():
            hits = 0
            for _ in range(trials):
                values = row_of(rng, shape, counts)
                found = clustered_interval(values.tolist(), names_of(counts))
                hits += holds((found.ci_low, found.ci_high), 2 * mean)
            shares.append(f"{hits / trials:.3f}")
        yield layout, *shares


def rated(rng: np.random.Generator, rate: float, alike: float, counts: tuple[int, ...], n_seeds: int = 1) -> Floats:
    """Draw 0/1 clips, means over seeds, of beta-distributed speakers; `alike` is the correlation inside of one."""
    spread = (1 - alike) / alike
    own = np.repeat(rng.beta(rate * spread, (1 - rate) * spread, len(counts)), counts)
    return (rng.random((n_seeds, sum(counts))) < own).mean(0)


def seeds(trials: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Coverage of rates of 0/1 scores whose clips are means over three seeds."""
    kinds = {f"rate {rate}, alike {alike}": (rate, alike) for rate in (0.5, 0.9, 0.99) for alike in (0.01, 0.5)}
    yield ("speakers x clips", *kinds)
    for layout in track(("6 x 4", "8, hard split", "12 x 4", "24 x 4", "96 x 1"), "seeds"):
        counts, found = LAYOUTS[layout], []
        for rate, alike in kinds.values():
            hits = 0
            for _ in range(trials):
                values = rated(rng, rate, alike, counts, n_seeds=3).tolist()
                one = clustered_interval(values, names_of(counts), over_seeds=True)
                hits += holds((one.ci_low, one.ci_high), rate)
            found.append(f"{hits / trials:.3f}")
        yield layout, *found


def shares(trials: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Coverage of rates of 0/1 scores, and of their paired differences (both rows at the rate)."""
    yield "speakers x clips", "rate", "alike 0.01", "alike 0.5", "difference, alike 0.01", "difference, alike 0.5"
    layouts = {name: LAYOUTS[name] for name in ("3 x 4", "8, hard split", "24 x 4", "96 x 1")}
    for layout, counts in track(layouts.items(), "shares"):
        keys, speakers = [str(i) for i in range(sum(counts))], names_of(counts)
        of = dict(zip(keys, speakers, strict=True))
        for rate in (0.5, 0.9, 0.99):
            single, paired = [], []
            for alike in (0.01, 0.5):
                hits = both = 0
                for _ in range(trials):
                    a, b = (rated(rng, rate, alike, counts).tolist() for _ in range(2))
                    found = clustered_interval(a, speakers)
                    hits += holds((found.ci_low, found.ci_high), rate)
                    gap = paired_difference(
                        dict(zip(keys, a, strict=True)), dict(zip(keys, b, strict=True)), of, n_flips=1
                    )
                    both += holds((gap.ci_low, gap.ci_high), 0.0)
                single.append(f"{hits / trials:.3f}")
                paired.append(f"{both / trials:.3f}")
            yield layout, str(rate), *single, *paired


def judged(gaps: Floats, speakers: list[str], failed: NDArray[np.bool_], *, only_not_worse: bool) -> str:
    """Return the finding about row a, whose scores are gaps, against row b of zeros; failures (2, n) are True."""
    column = Column("x", "x", "higher", worst=-1.0, margin=MARGIN)
    scores = [
        ScoreRow(f"{i}", row, speaker, 0, {"x": None if is_gone else float(value)}, {"x": "silent"})
        for row, values, gone in zip("ab", (gaps, np.zeros(len(gaps))), failed, strict=True)
        for i, (value, speaker, is_gone) in enumerate(zip(values, speakers, gone, strict=True))
    ]
    table = build_table(scores, ["a", "b"], [column], [("a", "b")])
    return finding(table, Claim("a", "b", "x", only_not_worse))


def differences(rng: np.random.Generator, shape: str, counts: tuple[int, ...]) -> Floats:
    """Draw differences of two rows, of mean zero; symmetric as those of rows that are alike, or "skewed"."""
    if shape == "skewed":
        return row_of(rng, "log-normal", counts) - 2 * SHAPES["log-normal"][1]
    return row_of(rng, shape, counts) - row_of(rng, shape, counts)


def row_of(rng: np.random.Generator, shape: str, counts: tuple[int, ...]) -> Floats:
    """Draw the scores of a row whose speakers and clips scatter alike."""
    draw, _ = SHAPES[shape]
    return np.repeat(draw(rng, len(counts)), counts) + draw(rng, sum(counts))


def findings(trials: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Share of "holds" and "does not hold" where neither is true: no difference, or one of exactly the margin."""
    kinds = {
        "better, normal": ("normal", 0.0, False),
        "better, log-normal": ("log-normal", 0.0, False),
        "better, a fifth of both fails": ("normal", 0.2, False),
        "not worse, normal": ("normal", 0.0, True),
        "not worse, log-normal": ("log-normal", 0.0, True),
        "better, skewed differences": ("skewed", 0.0, False),
    }
    yield ("speakers", *kinds)
    for n_speakers in track(SPEAKERS, "findings"):
        counts = (2,) * n_speakers
        found = []
        for shape, fails, only_not_worse in kinds.values():
            wrong = 0
            for _ in range(trials):
                gaps = differences(rng, shape, counts)
                failed = rng.random((2, sum(counts))) < fails
                shifted = gaps - MARGIN * only_not_worse
                said = judged(shifted, names_of(counts), failed, only_not_worse=only_not_worse)
                wrong += said.startswith(("holds", "does not hold"))
            found.append(f"{wrong / trials:.3f}")
        yield str(n_speakers), *found


def answered(rng: np.random.Generator, shape: tuple[int, int], of_item: float, of_rater: float) -> Floats:
    """Draw answers (items, raters) with crossed normal effects and noise of 1 around zero."""
    items, raters = rng.normal(0, of_item, (shape[0], 1)), rng.normal(0, of_rater, (1, shape[1]))
    return items + raters + rng.normal(size=shape)


def grid(values: Floats) -> dict[tuple[int, int], float]:
    """Return value by (item, rater)."""
    return {(item, rater): float(value) for (item, rater), value in np.ndenumerate(values)}


def studies(trials: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Coverage over items and raters, and type I error of p where method and item, and method and rater, interact."""
    yield (
        "items x raters",
        "effects",
        "opinion score",
        "share of 0.5",
        "share of 0.9",
        "p of a difference",
        "p of a share",
    )
    shapes = ((10, 2), (35, 2), (2, 9), (10, 3), (10, 5), (8, 9), (35, 5), (35, 9))
    for shape in track(shapes, "studies"):
        for label, effects in {"equal": (0.5, 0.5), "items": (0.8, 0.2), "raters": (0.2, 0.8)}.items():
            counts = np.zeros(5)
            scale = (1 + effects[0] ** 2 + effects[1] ** 2) ** 0.5
            for _ in range(trials):
                answers = answered(rng, shape, *effects)
                rated_ = grid(np.round(2 * answers) / 2)  # symmetric around zero, in steps as opinion scores are
                p = two_way_p_value(rated_)
                counts[0] += holds(two_way_interval(rated_), 0.0)
                counts[3] += p is not None and p <= 0.05
                for place, share in ((1, 0.5), (2, 0.9)):
                    won = grid(answered(rng, shape, *effects) + norm.ppf(share) * scale > 0)
                    counts[place] += holds(two_way_interval(won, are_shares=True), share)
                    if share == 0.5:
                        p = two_way_p_value(won, are_shares=True)
                        counts[4] += p is not None and p <= 0.05
            yield f"{shape[0]} x {shape[1]}", label, *(f"{one:.3f}" for one in counts / trials)


def lags(trials: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """The highest correlation of unrelated curves of 2 to 8 Hz among lags of up to 10 frames."""
    yield "seconds", "on average", "one pair in twenty"
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    for seconds, *_ in track(CHANCE, "lags"):
        found = []
        for _ in range(trials):
            noise = torch.randn(2, round(100 * seconds), generator=generator).double()
            mouth, level = (syllables(one, 8.0) for one in noise)
            found.append(lag_correlations(mouth, level, 10).max().item())
        yield f"{seconds:g}", f"{np.mean(found):.2f}", f"{np.quantile(found, 0.95):.2f}"


def main(
    trials: int = 2000,
    seed: int = 0,
    only: Part | None = None,
    output: Path | None = None,
) -> None:
    """Simulate and print; every part starts from the seed, so that one alone prints the same.

    Args:
        trials: Draws of each case; studies take half as many, lags twice as many.
        seed: Seed of all draws.
        only: One part instead of all.
        output: Markdown file to write as well.
    """
    console, written = Console(), []
    makers = {"means": means, "shares": shares, "seeds": seeds, "findings": findings, "studies": studies, "lags": lags}
    for name in PARTS if only is None else (only,):
        n = {"studies": trials // 2, "lags": 2 * trials}.get(name, trials)
        heads, *lines = makers[name](n, np.random.default_rng(seed))
        summary = (makers[name].__doc__ or "").splitlines()[0]
        sheet = Sheet(heads, tuple(lines), f"{summary} {n} trials, seed {seed}.", n_left=1)
        console.print(fitted(sheet, console.width))
        written += [*sheet_markdown(sheet), ""]
    if output is not None:
        with replacing(output) as partial:
            partial.write_text("\n".join(written), encoding="utf-8")


if __name__ == "__main__":
    call(main, sys.argv[1:], prog="simulate_intervals")
