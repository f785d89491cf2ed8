"""Rows whose clips were scored with different versions of a package: allowed, but never without a word."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from idlora_pl.results.row import ScoreRow


def mixed_versions(scores: Sequence[ScoreRow]) -> tuple[str, ...]:
    """Return one sentence for each row and package of which the same scorer used several versions.

    Clips whose lines do not name the package, as those of older versions, are left out.
    """
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for score in scores:
        for scorer, facts in score.scorers.items():
            for package, version in facts.versions.items():
                counts[score.row, package, scorer][version] += 1
    scorers: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (row, package, scorer), found in counts.items():
        if len(found) > 1:
            shown = " and ".join(f"{version} ({n})" for version, n in sorted(found.items()))
            scorers[row, package, shown].append(scorer)
    return tuple(
        f"{row}: {', '.join(names)} scored its clips with {package} {shown}; `idlora score --again all` scores them "
        "with one version."
        for (row, package, shown), names in scorers.items()
    )
