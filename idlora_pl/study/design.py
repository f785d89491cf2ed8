"""A study as a folder: the plan of which rater sees which clips in which order, with the methods hidden.

The plan is a pure function of its inputs and the seed. Each clip pair is shown to half of the raters with the sides
exchanged, trials are shuffled anew for every rater, and attention trials say what to answer. `page/` is to give to
raters; `key.json`, which names items and methods of every trial, is to keep and is read back with everything checked.
"""

import hashlib
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from idlora_pl import files
from idlora_pl.files import files_below, replacing_folder

Kind = Literal["ab", "mos"]

AB_QUESTIONS = {
    "voice": "Which voice is more like the voice of the reference?",
    "environment": "In which clip does the background sound fit the description better?",
    "manner": "In which clip does the manner of speaking fit the description better?",
}
MOS_QUESTIONS = {"sound": "How well does the sound fit what happens in the picture? 1 is bad, 5 is excellent."}


@dataclass(frozen=True)
class Plan:
    """What is shown (`page`) and what it means (`key`).

    Attributes:
        files: Real path of every clip of the page by its hidden name.
        page: What the page may know: questions, and trials by rater.
        key: What only the analysis may know: item and methods of every trial.
    """

    files: dict[str, Path]
    page: dict[str, Any]
    key: dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a study is made of.

    Attributes:
        kind: "ab" compares the first method with each other one; "mos" rates every clip of every method.
        methods: Folder of clips by method; a clip's item is its file name.
        reference: Folder of reference clips or sounds with the items' names, shown above a trial; None for none.
        texts: Text shown above a trial by item, such as the prompt.
        questions: Text by name.
        n_raters: How many people will answer; each sees every trial.
        n_attention: Trials per rater that say what to answer.
        seed: Of sides, orders and hidden names.
        common_only: Leave out items that not every method has, instead of refusing them.
    """

    kind: Kind
    methods: Mapping[str, Path]
    reference: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    n_raters: int = 9
    n_attention: int = 2
    seed: int = 0
    common_only: bool = False

    def __post_init__(self) -> None:
        """Refuse counts that make no study."""
        least = {"ab": 2, "mos": 1}[self.kind]
        if len(self.methods) < least:
            raise ValueError(f"a study of kind {self.kind} needs at least {least} --method NAME=FOLDER")
        if self.n_raters < 1 or self.n_attention < 0:
            raise ValueError(
                f"raters must be at least 1 and attention at least 0; got {self.n_raters}, {self.n_attention}"
            )

    def hidden(self, *what: str) -> str:
        """Return a name that tells nothing: 12 hex digits of the seed and what it stands for."""
        return hashlib.sha256("\0".join([str(self.seed), *what]).encode()).hexdigest()[:12]


def find_items(setup: Setup) -> tuple[list[str], dict[str, dict[str, Path]], list[str]]:
    """Return the items that all methods have, their clips by method and item, and the items left out.

    Raises:
        ValueError: A folder is missing or empty, or the methods have different items and `common_only` is not set.
    """
    clips: dict[str, dict[str, Path]] = {}
    for method, folder in setup.methods.items():
        if not folder.is_dir():
            raise ValueError(f"--method {method}: {folder} is no folder; give the folder of its mp4 files")
        clips[method] = {path.stem: path for path in files_below(folder, (".mp4",), deep=False)}
        if not clips[method]:
            raise ValueError(f"--method {method}: {folder} holds no mp4 file")
    common = sorted(set.intersection(*(set(found) for found in clips.values())))
    left_out = sorted({item for found in clips.values() for item in found} - set(common))
    if left_out and not setup.common_only:
        raise ValueError(
            f"{len(left_out)} items are not in every method, such as {left_out[0]!r}; make their clips, or leave them "
            "out with --common_only"
        )
    if not common:
        raise ValueError("no item is in every method; clips of one item must have one file name in all folders")
    return common, clips, left_out


def make_plan(setup: Setup) -> Plan:
    """Plan a study.

    Raises:
        ValueError: See `find_items`; or a reference is missing.
    """
    items, clips, left_out = find_items(setup)
    trials = _ab_trials(setup, items) if setup.kind == "ab" else _mos_trials(setup, items)
    files = {f"{setup.hidden(m, i)}.mp4": clips[m][i] for m in setup.methods for i in items}
    references = {item: _reference(setup, item) for item in items} if setup.reference else {}
    files |= {f"{setup.hidden('reference', item)}{path.suffix}": path for item, path in references.items()}
    raters = {}
    sides = {f"r{number + 1:02d}": _sides(trials, number) for number in range(setup.n_raters)}
    for number, (rater, order) in enumerate(sides.items()):
        shown = [_shown(setup, trial, order[trial.id], references) for trial in trials]
        shown += [_attention(setup, trials, number, index) for index in range(setup.n_attention)]
        random.Random(f"{setup.seed}/{number}").shuffle(shown)
        raters[rater] = shown
    questions = dict(setup.questions or (AB_QUESTIONS if setup.kind == "ab" else MOS_QUESTIONS))
    study = setup.hidden("study", setup.kind, *setup.methods, *items)
    page = {"study": study, "kind": setup.kind, "questions": questions, "raters": raters}
    key = {
        "study": study,
        "kind": setup.kind,
        "questions": questions,
        "methods": list(setup.methods),
        "left_out": left_out,
        "trials": {trial.id: asdict(trial) for trial in trials},
        "sides": sides,
        "attention": {one["id"]: one["ask"] for shown in raters.values() for one in shown if "ask" in one},
    }
    return Plan(files, page, key)


@dataclass(frozen=True)
class Trial:
    """One screen: an item of one method, or of two to compare."""

    id: str
    item: str
    methods: tuple[str, ...]


def _ab_trials(setup: Setup, items: Sequence[str]) -> list[Trial]:
    first, *others = setup.methods
    return [
        Trial(setup.hidden("trial", first, other, item), item, (first, other)) for other in others for item in items
    ]


def _mos_trials(setup: Setup, items: Sequence[str]) -> list[Trial]:
    return [Trial(setup.hidden("trial", method, item), item, (method,)) for method in setup.methods for item in items]


def _sides(trials: Sequence[Trial], rater: int) -> dict[str, list[str]]:
    """Return the methods from left to right; neighbouring raters see exchanged sides."""
    return {
        trial.id: list(trial.methods if (index + rater) % 2 == 0 else trial.methods[::-1])
        for index, trial in enumerate(trials)
    }


def _shown(setup: Setup, trial: Trial, sides: Sequence[str], references: Mapping[str, Path]) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": trial.id, "clips": [f"{setup.hidden(method, trial.item)}.mp4" for method in sides]}
    if trial.item in references:
        shown["reference"] = f"{setup.hidden('reference', trial.item)}{references[trial.item].suffix}"
    if trial.item in setup.texts:
        shown["text"] = setup.texts[trial.item]
    return shown


def _attention(setup: Setup, trials: Sequence[Trial], rater: int, index: int) -> dict[str, Any]:
    draw = random.Random(f"{setup.seed}/{rater}/attention/{index}")
    trial = draw.choice(list(trials))
    clip = f"{setup.hidden(trial.methods[0], trial.item)}.mp4"
    ask = draw.choice(["left", "right"] if setup.kind == "ab" else ["1", "2", "4", "5"])
    name = setup.hidden("attention", str(rater), str(index))
    return {"id": name, "clips": [clip] * len(trial.methods), "ask": ask}


def _reference(setup: Setup, item: str) -> Path:
    assert setup.reference is not None
    found = sorted(
        path for path in setup.reference.glob(f"{item}.*") if path.suffix in (".mp4", ".wav", ".mp3", ".flac")
    )
    if not found:
        raise ValueError(f"--reference {setup.reference} holds no mp4, wav, mp3 or flac of item {item!r}; add it")
    return found[0]


VALUES = {"ab": ("left", "tie", "right"), "mos": ("1", "2", "3", "4", "5")}
"""What may be answered, by kind of study."""
_PARTS = {"study": str, "kind": str, "questions": dict, "trials": dict, "sides": dict, "attention": dict}


def read_json(path: Path, fix: str) -> Any:
    """Return what a JSON file holds.

    Raises:
        ValueError: It is none; the message ends with `fix`.
    """
    try:
        return files.read_json(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{str(error).removesuffix('; correct it')}; {fix}") from error


def read_key(folder: Path) -> dict[str, Any]:
    """Read the key of a study.

    Raises:
        ValueError: The folder holds none, or the file is none that `idlora study make` wrote.
    """
    path, fix = folder / "key.json", "restore the file that `idlora study make` wrote"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder that `idlora study make` wrote")
    key = read_json(path, fix)
    if wrong := _wrong(key):
        raise ValueError(f"{path}: no key of a study: {wrong}; {fix}")
    found: dict[str, Any] = key
    return found


def _wrong(key: object) -> str:
    """Say what is wrong with a key; nothing if it is one."""
    if not isinstance(key, dict):
        return f"it must be an object; got {key!r:.60}"
    for name, kind in _PARTS.items():
        if not isinstance(key.get(name), kind) or (name != "attention" and not key[name]):
            return f"'{name}' is missing or of another kind"
    if key["kind"] not in VALUES:
        return f"'kind' must be ab or mos; got {key['kind']!r}"
    for name, trial in key["trials"].items():
        if not _is_trial(trial, {"ab": 2, "mos": 1}[key["kind"]]):
            return f"trial '{name}' must have an item and its methods; got {trial!r:.80}"
    if wrong := [one for one in key["attention"].values() if one not in VALUES[key["kind"]]]:
        return f"'attention' asks for {wrong[0]!r:.40}"
    return _wrong_sides(key)


def _is_trial(trial: object, n_methods: int) -> bool:
    if not isinstance(trial, dict) or not isinstance(trial.get("item"), str):
        return False
    methods = trial.get("methods")
    return isinstance(methods, list) and len(methods) == n_methods and all(isinstance(one, str) for one in methods)


def _wrong_sides(key: Mapping[str, Any]) -> str:
    for rater, sides in key["sides"].items():
        for name, trial in key["trials"].items():
            shown = sides.get(name) if isinstance(sides, dict) else None
            if not isinstance(shown, list) or sorted(map(str, shown)) != sorted(trial["methods"]):
                return f"'sides' of rater '{rater}' do not hold the methods of trial '{name}'"
    return ""


PAGE = Path(__file__).with_name("page.html")


def write_study(plan: Plan, folder: Path) -> None:
    """Write a study; the folder appears when it is complete.

    Args:
        plan: Of `make_plan`.
        folder: A new folder: `page/index.html`, `page/clips/` and `key.json`, which names the methods.

    Raises:
        ValueError: The folder holds something, or another process is writing it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} already holds something; give a new folder, or move this one away")
    # "</" would end the script element that holds the plan
    held = json.dumps(plan.page, ensure_ascii=False).replace("</", "<\\/")
    page = PAGE.read_text(encoding="utf-8").replace("__PLAN__", held)
    with replacing_folder(folder) as partial:
        clips = partial / "page" / "clips"
        clips.mkdir(parents=True)
        for name, path in plan.files.items():
            shutil.copyfile(path, clips / name)
        (partial / "page" / "index.html").write_text(page, encoding="utf-8")
        (partial / "key.json").write_text(json.dumps(plan.key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
