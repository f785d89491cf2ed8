"""Choose a voice reference and a prompt for every clip."""

from pathlib import Path

from rich.console import Console

from data_tools.pairing.leaks import LeakRule
from data_tools.pairing.pairing import Choice, checked_prompt, read_prompts, with_video_as_speaker
from data_tools.pairing.pairs import PairRule
from data_tools.pairing.splits import LEVELS, SPLITS, parse_shares, write_benchmarks
from data_tools.verb.command import print_summary, run
from data_tools.verb.lists import Row, is_safe_key, read_rows, write_rows
from data_tools.verb.parallel import n_workers_of
from idlora_pl.scorers.weights import WEIGHTS

REQUIRED = ("key", "path", "source", "speaker", "n_frames", "duration_s")


def pair_clips(
    clips: str,
    output: str,
    rule: PairRule = "cross_video",
    prompts: str | None = None,
    prompt: str | None = None,
    per_target: int = 1,
    seed: int = 0,
    split: str | None = None,
    voice: str = "none",
    face: str = "auto",
    weights: str = str(WEIGHTS),
    embeddings: str | None = None,
    leaks: LeakRule = "refuse",
    benchmark: str | None = None,
    workers: int | None = None,
) -> None:
    """Pair every clip with a voice reference of the same speaker; split the speakers and look for leaks.

    Writes OUTPUT, a list of pairs with target, reference (the clip's cleaned `voice` where it has one), speaker,
    consent and prompt, and beside it rejected_pairs.jsonl with a reason (no_speaker, no_reference, no_prompt) for
    every clip that was left out. With --split every pair has `split`, OUTPUT-train.jsonl, -val and -test have those of
    one split, and leaks.json says what is in two splits: speakers, videos, files and recordings, which are leaks, and
    people whose voices or faces are alike, which are suspicions.

    Args:
        clips: The clips.jsonl of the tool before.
        output: The list of pairs to write, such as pairs.jsonl.
        rule: Where a reference comes from: another clip of the same_video, another video (cross_video), or
            another video in another environment (cross_environment). A clip without a speaker is left out
            (no_speaker); with same_video its video counts as one person.
        prompts: JSON file {"<clip key or source video>": "[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ..."}.
        prompt: The prompt of every clip that has none of its own.
        per_target: How many references a clip is paired with at most.
        seed: Of the choice of references and of the split.
        split: Shares of train, val and test, such as 0.9,0.05,0.05, which deals out whole speakers; or "given" for
            the `split` of every row.
        voice: Scorer whose speaker network compares the speakers of different splits, as in find_speakers; or none.
        face: The same for faces; auto takes the first whose weights are there.
        weights: Folder of their weights.
        embeddings: Folder of remembered embeddings, such as that of find_speakers; by default beside OUTPUT.
        leaks: What ends with status 1 and no list of pairs: refuse, any leak; refuse_suspected, any suspicion, too;
            report, nothing.
        benchmark: Name of two manifests for `idlora score`, NAME_easy.json (voice and target of one video) and
            NAME_hard.json (of two), made of the test split.
        workers: Processes; by default one for every core.
    """
    source, target = Path(clips), Path(output)
    given = _checked_prompts(prompts, prompt, split, benchmark, per_target)
    rows = _rows_of(source, rule)
    beside = target.parent / "embeddings" if embeddings is None else Path(embeddings)
    if split is not None:
        # loads the libraries of networks, which takes seconds
        from data_tools.pairing.checking import Checks, refuse_leaks, split_rows

        checks = Checks(voice, face, Path(weights).expanduser(), beside, n_workers_of(workers))
        rows = split_rows(rows, split, seed, source)
        refuse_leaks(rows, source, target, checks, leaks)
    choose = Choice(rows, source, target, given, prompt, per_target, seed)
    pairs, rejected = choose.pairs(rule)
    write_rows(target.with_name("rejected_pairs.jsonl"), rejected)
    for name in SPLITS if split is not None else ():
        write_rows(target.with_name(f"{target.stem}-{name}.jsonl"), (row for row in pairs if row["split"] == name))
    if benchmark is not None:
        found = {level: choose.pairs(of, "test")[0] for level, of in LEVELS.items()}
        sizes = write_benchmarks(found, benchmark, target)
        Console().print(", ".join(f"{benchmark}_{level}: {size} items" for level, size in sizes.items()))
    write_rows(target, pairs)
    print_summary(f"pair_clips: {target}, {len(rows)} clips", "pairs", len(pairs), rejected)
    if not pairs:
        unnamed = sum(row["reason"] == "no_speaker" for row in rejected)
        help_ = f"; {unnamed} clips name no speaker: run find_speakers before" if unnamed else ""
        raise ValueError(f"no clip could be paired; {target.with_name('rejected_pairs.jsonl')} has the reasons{help_}")


def check_needs(
    *,
    prompts: str | None,
    prompt: str | None,
    split: str | None,
    benchmark: str | None,
    per_target: int,
    voice: str,
    face: str,
    weights: str,
    **_: object,
) -> None:
    """Raise what pair_clips would raise of its settings, prompts and weights, before any clip is read."""
    _checked_prompts(prompts, prompt, split, benchmark, per_target)
    if split is not None:
        from data_tools.pairing.checking import Checks

        Checks(voice, face, Path(weights).expanduser(), Path(), 1).embedders()


def _checked_prompts(
    prompts: str | None, prompt: str | None, split: str | None, benchmark: str | None, per_target: int
) -> dict[str, str]:
    """Return the prompts of a file, once these and the settings were checked."""
    given = read_prompts(Path(prompts)) if prompts is not None else {}
    for name, text in given.items():
        checked_prompt(text, f"prompt file {prompts}, '{name}'")
    if prompt is not None:
        checked_prompt(prompt, "--prompt")
    if split not in (None, "given"):
        parse_shares(str(split))
    if benchmark is not None and (split is None or not is_safe_key(benchmark)):
        raise ValueError(f"--benchmark {benchmark} needs --split and a name of letters, digits, _ and -")
    if per_target < 1:
        raise ValueError(f"per_target must be at least 1; got {per_target}")
    return given


def _rows_of(source: Path, rule: PairRule) -> dict[str, Row]:
    """Return the clips of a list by key; within one video, the video stands for a speaker that nobody names."""
    rows: dict[str, Row] = {}
    for row in read_rows(source, REQUIRED):
        if row["key"] in rows:
            raise ValueError(f"{source} has the key '{row['key']}' twice; give every clip its own")
        rows[row["key"]] = row
    if rule == "same_video":
        rows, n_unnamed = with_video_as_speaker(rows)
        if n_unnamed:
            Console(soft_wrap=True).print(
                f"{n_unnamed} clips name no speaker: with same_video, each of their videos counts as one person"
            )
    return rows


if __name__ == "__main__":
    run(pair_clips)
