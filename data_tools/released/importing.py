"""One import from the first look at the input to the finished shard sets, and what it says at its end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from data_tools.released.metadata import Metadata
from data_tools.released.passes import (
    REJECTED_NAME,
    Input,
    Scanned,
    Work,
    finished_shard,
    scan,
    shards_of,
    sorted_rows,
    write,
)
from data_tools.released.plan import PRECISIONS, Candidate, Plan, Rules, SetPlan, make_plan
from data_tools.verb.lists import Row, write_rows
from idlora_pl.data.shards import INDEX_NAME, ShardIndex
from idlora_pl.files import replacing
from idlora_pl.ltx2.presets import Preset

INPUT_NAME, OPTIONS_NAME = "input.json", "options.json"


@dataclass(frozen=True)
class Packing:
    """How samples are packed, and what the set says of itself.

    Attributes:
        consent: under which terms the people in the clips are shown.
        samples_per_shard: how many samples one tar holds.
        seed: of the order of samples from plain folders.
        max_rejected: how many refusals are accepted; None for any number.
    """

    consent: str
    samples_per_shard: int
    seed: int
    max_rejected: int | None

    def __post_init__(self) -> None:
        """Refuse a shard without samples."""
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard must be at least 1; got {self.samples_per_shard}")


@dataclass(frozen=True)
class Import:
    """Everything that decides what comes out.

    Attributes:
        given: the input.
        rules: which items, in which lengths.
        packing: how they are packed.
        metadata: what is known of them beside their files.
        work: where parts that are done are kept.
    """

    given: Input
    rules: Rules
    packing: Packing
    metadata: Metadata
    work: Work

    @property
    def seed(self) -> int | None:
        """The seed of the order; None for the order of the archives."""
        return None if self.given.listing.archives else self.packing.seed

    def run(self, console: Console) -> None:
        """Do what no earlier run has done, put the result in its place and say what it is.

        Raises:
            ValueError: when nothing can be imported, more is refused than allowed, or an input file is damaged.
        """
        scanned = scan(self.given, self.work)
        try:
            plan = make_plan(scanned.candidates, self.rules, seed=self.seed)
            rejected = sorted_rows(scanned.rejected + plan.rejected)
            self._refuse_result(plan, scanned, rejected, console)
        except ValueError:
            self.work.forget(OPTIONS_NAME)  # nothing was written yet, so other options may use what was read
            raise
        preset = plan.base
        assert preset is not None, "a plan with items has a base"
        metas = {item.name: self._meta(item, plan) for part in plan.sets for item in part.items}
        indices = {part.name: self._index(part, preset, len(rejected)) for part in plan.sets}
        shards = {
            part.name: shards_of(part, indices[part.name], self.work, self.packing.samples_per_shard)
            for part in plan.sets
        }
        write([shard for part in shards.values() for shard in part], metas, self.given, self.work)
        for name, index in indices.items():
            files = tuple(finished_shard(shard) for shard in shards[name])
            complete = ShardIndex(files, index.shapes, index.dtypes, index.codecs, index.settings)
            with replacing(self.work.result / name / INDEX_NAME) as partial:
                partial.write_text(complete.to_json())
        write_rows(self.work.result / REJECTED_NAME, rejected)
        self.work.finish()
        self._say(plan, scanned, rejected, console)

    def _say(self, plan: Plan, scanned: Scanned, rejected: list[Row], console: Console) -> None:
        console.print(written(plan, scanned, self.rules, self.metadata))
        if rejected:
            console.print(reasons(rejected))
        say_ignored(console, scanned)
        console.print(
            f"{plan.n_items} of {scanned.n_items} items in {self.work.output}, {len(rejected)} refusals in "
            f"{REJECTED_NAME}, consent: {self.packing.consent}"
        )

    def _refuse_result(self, plan: Plan, scanned: Scanned, rejected: list[Row], console: Console) -> None:
        """Raise ValueError when nothing is left or too much is refused; the report stays in the work folder."""
        limit = self.packing.max_rejected
        too_many = limit is not None and len(rejected) > limit
        if plan.n_items and not too_many:
            return
        report = self.work.folder / REJECTED_NAME
        write_rows(report, rejected)
        console.print(reasons(rejected))
        say_ignored(console, scanned)
        if not plan.n_items:
            raise ValueError(f"none of {scanned.n_items} items could be imported; {report} has the reasons")
        raise ValueError(f"{len(rejected)} refusals, --max_rejected allows {limit}; {report} has the reasons")

    def _meta(self, item: Candidate, plan: Plan) -> Mapping[str, Any]:
        """Return the `meta` of a sample; true lengths are there only where the set is padded."""
        facts = item.facts
        meta = {"key": plan.keys[item.name], "source": item.name, "fps": facts.fps} | self.metadata.meta_of(item.name)
        true_lengths = {"target_tokens": facts.target_tokens, "reference_tokens": facts.reference_tokens}
        return meta | (true_lengths if self.rules.lengths == "pad" else {})

    def _index(self, part: SetPlan, base: Preset, n_rejected: int) -> ShardIndex:
        """Return the index of a set without its shards."""
        facts = part.items[0].facts
        channels, n_bins = facts.audio
        layout, n_text, *widths = facts.text
        shapes = {
            "target_video": facts.grid,
            "target_audio": (channels, part.target_tokens, n_bins),
            "reference": (channels, part.reference_tokens, n_bins),
            "text_video": (int(n_text), int(widths[0])),
            "text_audio": (int(n_text), int(widths[1])),
            "text_mask": (int(n_text),),
        }
        video = base.geometry.video
        settings = {
            "base": base.name,
            "source": "the authors' preprocessed layout",
            "text": "one tensor for both modalities" if layout == "single" else "two tensors",
            "fps": video.frame_rate_fps,
            "duration_s": ((facts.grid[1] - 1) * video.temporal_stride + 1) / video.frame_rate_fps,
            "lengths": self.rules.lengths,
            "tokens_cut_or_padded": part.changes(),
            "order": "as in the archives" if self.seed is None else f"shuffled with seed {self.seed}",
            "consent": self.packing.consent,
            "rejected": n_rejected,
        }
        return ShardIndex((), shapes, dict(zip(shapes, (*PRECISIONS, "bool"), strict=True)), base.name, settings)


_SHOWN = 3


def written(plan: Plan, scanned: Scanned, rules: Rules, metadata: Metadata) -> Table:
    """Count what was written, and in which ways it was changed."""
    table = Table("imported", "items", title=f"{plan.n_items} of {scanned.n_items} items written")
    for part in plan.sets:
        lengths = f"{part.target_tokens} target and {part.reference_tokens} reference tokens"
        table.add_row(f"{part.name or 'in one set'}: {lengths}", str(len(part.items)))
        for name, changes in part.changes().items():
            for tokens, count in changes.items():
                verb = "cut by" if int(tokens) > 0 else "padded by"
                table.add_row(f"  {name} {verb} {abs(int(tokens))} tokens", str(count))
    written = [item.facts for part in plan.sets for item in part.items]
    assumed = [facts for facts in written if facts.fps is None]
    rate_fps = plan.base.geometry.video.frame_rate_fps if plan.base else 0.0
    for what, count in (
        ("stored as flat tokens (old caches), put back on their grid", sum(facts.unpatchified for facts in written)),
        ("converted to another precision", sum(facts.precisions != PRECISIONS for facts in written)),
        (f"without a frame rate, taken as {rules.missing_fps}", len(assumed)),
        (f"of nearly {rate_fps:g} fps, taken as that", sum(facts.fps not in (None, rate_fps) for facts in written)),
        *sorted(metadata.counts.items()),
    ):
        if count:
            table.add_row(what, str(count))
    return table


def reasons(rejected: Sequence[Row]) -> Table:
    """Count rows of the report by reason, with one sentence each."""
    table = Table("refused because", "count", "for example", title=f"{len(rejected)} refused")
    for reason, count in sorted(Counter(row["reason"] for row in rejected).items()):
        example = next(row["detail"] for row in rejected if row["reason"] == reason)
        table.add_row(reason, str(count), example)
    return table


def say_ignored(console: Console, scanned: Scanned) -> None:
    """Name what was no part of the layout, and how much of the archives waited on disk."""
    if scanned.ignored:
        more = ", ..." if len(scanned.ignored) > _SHOWN else ""
        console.print(f"no part of the layout: {len(scanned.ignored)} ({', '.join(scanned.ignored[:_SHOWN])}{more})")
    if scanned.peak_bytes:
        console.print(f"at most {scanned.peak_bytes / 1e6:.1f} MB of the archives waited on disk to be joined")
