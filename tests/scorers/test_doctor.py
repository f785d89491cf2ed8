"""`idlora doctor`: what is found, what is proved, what is missing and the command that gets it."""

import json
import shutil
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import call_tool
from idlora_pl.media.reading import read_recording
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.words import GrammarErrors, TranscriptErrorRate
from idlora_pl.nano.codecs import ASSETS
from idlora_pl.nano.embedders import load_instruments
from idlora_pl.scorers.card import Anchor, Card
from idlora_pl.scorers.loading import available, load_scorers, names_of
from idlora_pl.scorers.proof import PACKAGE, Proof, VerifiedFile, examine
from idlora_pl.scorers.registry import CARDS
from idlora_pl.scorers.scores import Score
from idlora_pl.scorers.weights import MissingLibrary, UnusableInput, WeightFile
from idlora_pl.scorers.words.cards import grid_errors

doctor = partial(call_tool, "doctor")

NETWORK = ASSETS / "instruments.safetensors"


def build(weights: Path) -> TranscriptErrorRate:
    return TranscriptErrorRate(load_instruments(weights / "words/net.safetensors").transcriber, name="words_wrong")


def measure(metric, inputs: Path) -> dict[str, float]:
    clip = read_recording(inputs / "talk/real.mp4")
    return {"wrong": metric.score_clip(clip, Expected(words="xx xx xx xx xx xx xx xx")).values["words_wrong"]}


ANCHOR = Anchor(
    "Eight words that nobody says.", {"wrong": 1.0}, {"wrong": 0.01}, measure, ("talk/real.mp4",), "make it", True
)
FILE = WeightFile("words/net.safetensors", sha256(NETWORK.read_bytes()).hexdigest(), "fetch --to WEIGHTS net", "MIT")
CARD = Card("words", "Words.", (Score("words_wrong", "words", "lower"),), (FILE,), build, ANCHOR, packages=("torch",))


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "weights/words").mkdir(parents=True)
    shutil.copy(NETWORK, tmp_path / "weights/words/net.safetensors")
    return tmp_path / "weights"


@pytest.fixture
def inputs(nano_data, tmp_path):
    (tmp_path / "inputs/talk").mkdir(parents=True)
    shutil.copy(read_prompts(nano_data / "test/prompts.json")[0].target, tmp_path / "inputs/talk/real.mp4")
    return tmp_path / "inputs"


@pytest.fixture
def proofs(tmp_path):
    return VerifiedFile(tmp_path / "verified.json")


def found(card, weights, inputs, proofs, **kwargs):
    return examine([card], weights, inputs, proofs, **kwargs)[0]


def anchored(card, **changes):
    return replace(card, anchor=replace(card.anchor, **changes))


def test_what_is_missing_comes_with_its_command(tmp_path, proofs):
    one = found(CARD, tmp_path, None, proofs)
    assert (one.weights, one.library, one.anchor) == ("missing", "", "not run")
    assert one.fixes == (f"fetch --to {tmp_path} net", "input: make it")
    assert one.compared() == ["wrong expected 1 +- 0.01"]


def test_another_file_is_not_the_published_one(weights, inputs, proofs):
    (weights / "words/net.safetensors").write_bytes(b"else")
    one = found(CARD, weights, inputs, proofs)
    assert (one.weights, one.anchor, one.fixes) == ("other hash", "not run", (f"fetch --to {weights} net",))


def test_a_library_that_is_missing_is_named(weights, inputs, proofs):
    card = replace(CARD, packages=("torch", "no-such-package-here"), extra="eval")
    one = found(card, weights, inputs, proofs)
    assert (one.library, one.fixes) == ("no-such-package-here", ("pip install 'idlora_pl[eval]'",))
    with pytest.raises(MissingLibrary, match="scorer words needs the package no-such-package-here; get it with: pip"):
        card.load(weights)


def test_an_anchor_passes_and_is_remembered_for_these_weights_only(weights, inputs, proofs):
    assert found(CARD, weights, None, proofs).message == "input talk/real.mp4 is missing"
    one = found(CARD, weights, inputs, proofs)
    assert (one.anchor, one.found, one.fixes) == ("passed", {"wrong": 1.0}, ())
    digest = CARD.digest(weights)
    assert proofs.passed(CARD, digest)
    assert found(CARD, weights, None, proofs).anchor == "passed"  # remembered
    assert not proofs.passed(CARD, "0" * 64)
    assert not proofs.passed(anchored(CARD, tolerance={"wrong": 0.02}), digest)
    assert not proofs.passed(replace(CARD, packages=("torch", "av")), digest)
    written = json.loads(proofs.path.read_text())
    assert [(line["scorer"], line["weights"], line["passed"]) for line in written.values()] == [("words", digest, True)]
    assert "torch" in next(iter(written.values()))["machine"]


def test_an_anchor_that_fails_stays_failed_until_it_is_checked_again(weights, inputs, proofs):
    strict = anchored(CARD, expected={"wrong": 0.5})
    assert found(strict, weights, inputs, proofs).anchor == "failed"
    assert not proofs.passed(strict, CARD.digest(weights))
    assert found(strict, weights, None, proofs).compared() == ["wrong 1, expected 0.5 +- 0.01"]
    names = anchored(CARD, expected={"other": 0.5}, tolerance={"other": 0.0})
    assert found(names, weights, inputs, proofs).message == "it gave no value for other"
    assert found(strict, weights, None, proofs).fixes == ("idlora doctor --check",)


def test_an_input_that_cannot_be_used_proves_nothing(weights, inputs, proofs):
    (inputs / "talk/real.mp4").write_bytes(b"no clip")
    one = found(CARD, weights, inputs, proofs)
    assert (one.anchor, one.fixes) == ("not run", ("input: make it", "idlora doctor --check"))
    assert "an input cannot be used: " in one.message
    assert not proofs.path.exists()
    for text in ("", "speaker\tfile\ttext\n", "speaker\tfile\ttext\ns1 bbaf2n.mpg bin blue\n"):
        (inputs / "transcripts.tsv").write_text(text)
        with pytest.raises(UnusableInput, match=r"transcripts.tsv must be lines of speaker, file and text"):
            grid_errors(GrammarErrors(None, str), inputs, 1)


def test_a_scorer_that_ends_in_an_error_does_not_hide_the_others(weights, inputs, tmp_path, monkeypatch, capsys):
    def explode(metric, inputs):
        return {"wrong": 1 / 0}

    def refuse(weights):
        raise MemoryError("8 TB")

    monkeypatch.setitem(CARDS, "words", replace(anchored(CARD, measure=explode), name="words"))
    monkeypatch.setitem(CARDS, "large", replace(CARD, name="large", build=refuse))
    common = ["--weights", str(weights), "--inputs", str(inputs), "--verified", str(tmp_path / "v.json")]
    with pytest.raises(SystemExit, match="words, large ended in an error; what it was stands above"):
        doctor([*common, "--scorers", "words,large,nano_phonemes"])
    said = capsys.readouterr().out
    assert "words: anchor error (ZeroDivisionError: division by zero)" in said
    assert "large: anchor error (MemoryError: 8 TB)" in said
    assert "nano_phonemes: anchor passed" in said
    assert said.count("get: idlora doctor --check") == 2
    assert list(json.loads((tmp_path / "v.json").read_text()))[0].startswith("nano_phonemes")
    assert not load_scorers("words", weights, tmp_path / "v.json", inputs=inputs)[0].facts.verified


def test_a_pass_is_of_this_code_and_this_device(weights, inputs, proofs, tmp_path):
    found(CARD, weights, inputs, proofs)
    digest = CARD.digest(weights)
    for part in ("scorers", "metrics", "media", "nano"):
        shutil.copytree(PACKAGE / part, tmp_path / "same" / part, ignore=shutil.ignore_patterns("__pycache__"))
    assert VerifiedFile(proofs.path, package=tmp_path / "same").passed(CARD, digest)
    assert not VerifiedFile(proofs.path, device="meta").passed(CARD, digest)
    shipped = CARDS["nano_phonemes"]
    proofs.record(shipped, "a", Proof(True, {}))
    for place, own, nano in (("nano/voice.py", True, False), ("metrics/lips/new.py", False, False)):
        shutil.copytree(tmp_path / "same", tmp_path / place.replace("/", "_"))
        changed = tmp_path / place.replace("/", "_") / place
        changed.parent.mkdir(exist_ok=True)
        changed.write_text("# else\n")
        other = VerifiedFile(proofs.path, package=tmp_path / place.replace("/", "_"))
        assert (other.passed(CARD, digest), other.passed(shipped, "a")) == (own, nano)


def test_the_device_of_the_anchors_must_be_here(weights, inputs, tmp_path):
    with pytest.raises(ValueError, match="--device nowhere is not here"):
        doctor(["--device", "nowhere", "--verified", str(tmp_path / "v.json")])


def test_the_settings_of_a_snapshot_are_a_part_of_it(weights):
    (weights / "words/net").mkdir()
    shutil.copy(NETWORK, weights / "words/net/model.safetensors")
    (weights / "words/net/config.json").write_text("{}")
    card = replace(CARD, weights=(replace(FILE, path="words/net", hashed="model.safetensors"),))
    before = card.digest(weights)
    (weights / "words/net/README.md").write_text("no setting")
    assert card.digest(weights) == before
    (weights / "words/net/config.json").write_text('{"beams": 1}')
    assert card.digest(weights) != before


def test_a_slow_anchor_waits_for_check(weights, inputs, proofs):
    slow = anchored(CARD, quick=False)
    one = found(slow, weights, inputs, proofs)
    assert (one.anchor, one.fixes) == ("not run", ("idlora doctor --check",))
    assert found(slow, weights, inputs, proofs, run="all").anchor == "passed"


def test_the_tool_lists_all_and_ends_with_one_when_an_anchor_failed(weights, inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CARDS, "words", CARD)
    common = ["--scorers", "nano_phonemes,words", "--weights", str(weights), "--verified", str(tmp_path / "v.json")]
    doctor([*common, "--inputs", str(inputs)])
    said = capsys.readouterr().out
    assert "words: anchor passed" in said
    assert "wrong 1, expected 1 +- 0.01" in said
    monkeypatch.setitem(CARDS, "words", anchored(CARD, expected={"wrong": 0.5}))
    with pytest.raises(SystemExit, match="the anchors of words failed; do not use their numbers"):
        doctor([*common, "--inputs", str(inputs), "--check"])
    with pytest.raises(ValueError, match="--inputs .*nowhere is not a folder"):
        doctor([*common, "--inputs", str(tmp_path / "nowhere")])


def test_names_stand_for_groups(weights, tmp_path, monkeypatch):
    for name in [name for name in CARDS if not name.startswith("nano_")]:
        monkeypatch.delitem(CARDS, name)
    monkeypatch.setitem(CARDS, "words", CARD)
    nano = ["nano_speaker", "nano_lip_sync", "nano_phonemes", "nano_word_leak", "nano_environment"]
    assert names_of("nano,words", tmp_path) == [*nano, "words"]
    assert (available(weights), available(tmp_path)) == (["words"], [])
    with pytest.raises(ValueError, match="no scorer is available with the weights in .*; `idlora doctor` says how"):
        names_of("available", tmp_path)
    monkeypatch.setitem(CARDS, "twin", replace(CARD, name="twin"))
    with pytest.raises(ValueError, match="scorers words and twin both give words_wrong; choose one of them"):
        load_scorers("words,twin", weights, tmp_path / "v.json")


def test_a_scorer_proves_itself_when_it_is_loaded_with_its_inputs(weights, inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(CARDS, "words", CARD)
    verified = tmp_path / "v.json"
    assert not load_scorers("words", weights, verified)[0].facts.verified
    (scorer,) = load_scorers("words", weights, verified, inputs=inputs)
    assert scorer.facts.verified
    assert scorer.facts.weights == sha256(NETWORK.read_bytes()).hexdigest()
    assert load_scorers("words", weights, verified)[0].facts.verified


def test_names_of_scores_are_unique_over_all_cards():
    names = [score.name for card in CARDS.values() for score in card.scores]
    assert sorted(set(names)) == sorted(names)
