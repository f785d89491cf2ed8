"""The answers of raters, read back with the key of the study."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idlora_pl.study.key import VALUES, read_json


@dataclass(frozen=True)
class Answer:
    """One answer with the methods named.

    Attributes:
        rater: Code of the rater.
        item: Item of the trial.
        methods: The two methods that were compared, first method first, or the one that was rated.
        question: Name of the question.
        value: +1 for the first method, 0 for a tie, -1 for the second; or the opinion score, 1 to 5.
    """

    rater: str
    item: str
    methods: tuple[str, ...]
    question: str
    value: float


@dataclass(frozen=True)
class Answers:
    """What a study brought.

    Attributes:
        kept: Answers that count.
        inattentive: Raters left out, with the number of attention trials that they failed.
        n_missing: Answers that the kept raters of the study did not give.
    """

    kept: tuple[Answer, ...]
    inattentive: dict[str, int]
    n_missing: int


def read_answers(key: Mapping[str, Any], folder: Path, *, failures_allowed: int = 0) -> Answers:
    """Read the answer files of a study.

    Args:
        key: Of `read_key`.
        folder: Holds one JSON file a rater, as the page saves it.
        failures_allowed: A rater who fails more attention trials is left out.

    Raises:
        ValueError: There is no file, a file belongs to another study, or holds an answer that cannot be.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise ValueError(f"{folder} holds no answer files; give --answers the folder of the raters' json files")
    by_rater: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        found = _read(path, key)
        if found["rater"] in by_rater:
            raise ValueError(f"{path}: rater {found['rater']} has two files; keep one")
        by_rater[found["rater"]] = found["answers"]
    failed = {rater: n_failed(key, given) for rater, given in by_rater.items()}
    inattentive = {rater: n for rater, n in failed.items() if n > failures_allowed}
    attentive = {rater: given for rater, given in by_rater.items() if rater not in inattentive}
    kept = [_decode(key, rater, one) for rater, given in attentive.items() for one in given if _counts(key, one)]
    expected = len(attentive) * len(key["trials"]) * len(key["questions"])
    return Answers(tuple(kept), inattentive, expected - len(kept))


def _read(path: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    found = read_json(path, "ask the rater to save it again")
    if not isinstance(found, dict) or not {"study", "rater", "answers"} <= found.keys():
        raise ValueError(f"{path}: no answer file; it must hold study, rater and answers")
    if found["study"] != key["study"]:
        raise ValueError(f"{path}: answers of study {found['study']!s:.40}, the key is of {key['study']}; move it away")
    if not isinstance(found["rater"], str) or found["rater"] not in key["sides"]:
        raise ValueError(f"{path}: rater {found['rater']!r:.40} is none of {', '.join(key['sides'])}; correct the code")
    if not isinstance(found["answers"], list):
        raise ValueError(f"{path}: answers must be a list of objects with trial, question and answer; save it again")
    seen = set()
    for one in found["answers"]:
        _check(path, key, one)
        place = (one["trial"], one["question"])
        if place in seen:
            raise ValueError(f"{path}: trial {one['trial']} answers {one['question']} twice; keep one")
        seen.add(place)
    return found


def _check(path: Path, key: Mapping[str, Any], one: object) -> None:
    if not isinstance(one, dict) or not all(isinstance(one.get(k), str) for k in ("trial", "question", "answer")):
        raise ValueError(f"{path}: an answer must have trial, question and answer as text; got {one!r:.80}")
    known = one["trial"] in key["trials"] or one["trial"] in key["attention"]
    if not known or one["question"] not in key["questions"]:
        raise ValueError(f"{path}: no trial {one['trial']!r} with question {one['question']!r} in this study")
    if one["answer"] not in VALUES[key["kind"]]:
        choices = ", ".join(VALUES[key["kind"]])
        raise ValueError(f"{path}: trial {one['trial']} has the answer {one['answer']!r}; it must be one of {choices}")


def _counts(key: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return one["trial"] in key["trials"]


def n_failed(key: Mapping[str, Any], given: list[dict[str, Any]]) -> int:
    """Count the attention screens of a rater on which not every question has the answer that was asked for.

    A screen that was left out is failed too; each rater of a study has the same number of them.
    """
    asked = key["attention"]
    right = Counter(one["trial"] for one in given if asked.get(one["trial"]) == one["answer"])
    passed = sum(count == len(key["questions"]) for count in right.values())
    return max(0, len(asked) // len(key["sides"]) - passed)


def _decode(key: Mapping[str, Any], rater: str, one: Mapping[str, Any]) -> Answer:
    trial = key["trials"][one["trial"]]
    methods = tuple(trial["methods"])
    if key["kind"] == "mos":
        return Answer(rater, trial["item"], methods, one["question"], float(one["answer"]))
    left, right = key["sides"][rater][one["trial"]]
    chosen = {"left": left, "right": right, "tie": None}[one["answer"]]
    value = 0.0 if chosen is None else (1.0 if chosen == methods[0] else -1.0)
    return Answer(rater, trial["item"], methods, one["question"], value)
