"""A row of one clip: what cannot be read is named, what is only half there is scored as far as it goes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idlora_pl.benchmark.items import Item, read_prompts
from idlora_pl.evaluation.clips import ClipSource
from idlora_pl.evaluation.rows import expected_of, item_digest, score_clip, score_source, wanted_of
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import read_clip, read_recording
from idlora_pl.media.writing import write_audio
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected
from idlora_pl.results.row import Curve, ScorerFacts
from idlora_pl.scorers.loading import Scorer
from tests.media.conftest import write_floats


class Likeness(ClipMean):
    """Whether the target has as many frames as the clip; with a curve and a note."""

    def __init__(self):
        super().__init__(("likeness", "half"))

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        if expected.target is None:
            return ClipScore(reason="no_target")
        same = float(len(clip.frames) == len(expected.target.frames))
        return ClipScore(
            {"likeness": same}, "too_short", {}, {"likeness": Curve(0.0, 0.5, (same, None))}, {"crop": "whole"}
        )

    def update(self) -> None:
        raise NotImplementedError


class LibraryError(Exception):
    """An error of a library that has a kind of its own, as those of onnxruntime do."""


class Failing(Likeness):
    """Fails at every clip, as networks and libraries do."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.error = error

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        raise self.error


LIKENESS = Scorer("likeness", Likeness(), ScorerFacts(("likeness", "half"), "ab"), needs_target=True)


@pytest.fixture
def item(nano_data):
    return read_prompts(nano_data / "test/prompts.json")[0]


def test_what_is_expected_comes_from_the_entry(item):
    expected = expected_of(item)
    assert expected.words == item.speech
    assert expected.words in item.prompt
    assert expected.environment in expected.sounds
    assert expected.reference.shape == (1, 21120)
    assert expected.target.frames.shape == (33, 3, 256, 256)
    other = expected_of(replace(item, compare=None))
    assert not torch.equal(other.reference, expected.reference)
    bare = wanted_of(replace(item, compare=None, reference=None), with_target=False)
    assert (bare.expected.reference, bare.expected.target, dict(bare.faults)) == (None, None, {})


def test_a_row_holds_values_reasons_curves_and_what_the_scorer_says(item, tmp_path):
    row = score_source(
        [LIKENESS], item, ClipSource(tmp_path.parent / "x.mp4", notes={"bound": "target"}), "r", tmp_path
    )
    assert set(row.reasons.values()) == {"file_missing"}
    clip = read_clip(item.target)
    row = score_clip([LIKENESS], item, clip, "r", notes={"clip": "a.mp4"})
    assert (row.scores, row.reasons) == ({"likeness": 1.0, "half": None}, {"half": "too_short"})
    assert row.scorers["likeness"].details == {"crop": "whole"}
    assert row.curves == {"likeness": Curve(0.0, 0.5, (1.0, None))}
    assert (row.facts("half").weights, row.is_verified("half"), row.notes) == ("ab", False, {"clip": "a.mp4"})


def test_what_a_clip_is_compared_with_is_named_when_it_cannot_be_read(scorers, item, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    broken = replace(item, target=tmp_path / "broken.mp4", compare=tmp_path / "broken.mp4")
    clip = read_clip(item.target)
    row = score_clip([*scorers, LIKENESS], broken, clip, "r", notes={})
    assert row.reasons == {
        "speaker_similarity": "reference_unreadable", "likeness": "target_unreadable", "half": "target_unreadable",
    }  # fmt: skip
    write_floats(tmp_path / "nan.wav", torch.full((1, 16000), torch.nan).numpy())
    row = score_clip(scorers, replace(item, compare=tmp_path / "nan.wav"), clip, "r", notes={})
    assert row.reasons == {"speaker_similarity": "reference_not_finite"}
    none = replace(item, target=None, compare=None, reference=None)
    row = score_clip([*scorers, LIKENESS], none, clip, "r", notes={})
    assert row.reasons == {"speaker_similarity": "no_reference", "likeness": "no_target", "half": "no_target"}


@pytest.mark.parametrize(
    "error", [MemoryError("bad allocation"), AssertionError("odd"), LibraryError("node 7"), StopIteration()]
)
def test_whatever_a_scorer_fails_with_is_a_row_of_its_own(item, tmp_path, error):
    failing = Scorer("failing", Failing(error), ScorerFacts(("likeness", "half"), "ab"))
    row = score_source([failing], item, ClipSource(Path(item.target)), "r", tmp_path)
    assert row.reasons == {"likeness": "scorer_failed", "half": "scorer_failed"}
    assert row.scorers["failing"].details["error"].startswith(type(error).__name__)
    failing = replace(failing, metric=Failing(KeyboardInterrupt()))  # a wish of the user, no failure of the scorer
    with pytest.raises(KeyboardInterrupt):
        score_source([failing], item, ClipSource(Path(item.target)), "r", tmp_path)


def test_a_file_that_does_not_decode_says_why(item, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    row = score_source([LIKENESS], item, ClipSource(tmp_path / "broken.mp4"), "r", tmp_path)
    assert set(row.reasons.values()) == {"file_unreadable"}
    assert "cannot be decoded" in row.notes["unreadable"]


def test_a_recording_is_read_as_it_is(item, tmp_path):
    whole = read_clip(item.target)
    found = read_recording(item.target)
    assert torch.equal(found.frames, whole.frames)
    assert torch.equal(found.waveform, whole.waveform)  # the codec's padding is cut
    write_audio(whole.waveform, tmp_path / "voice.wav", whole.sample_rate_hz)
    sound = read_recording(tmp_path / "voice.wav")
    assert (sound.frames.shape, sound.waveform.shape) == ((0, 3, 0, 0), whole.waveform.shape)
    (tmp_path / "text.mp4").write_text("no clip")
    with pytest.raises(MediaError, match="cannot be decoded"):
        read_recording(tmp_path / "text.mp4")


def test_the_digest_of_an_item_is_the_one_that_earlier_scores_files_hold():
    """Computed when items were dicts; another digest would make every kept score one of another item."""
    assert item_digest(Item("a", speech="aa", reference_speech="eh")) == "3f04ba15c415b265"
    assert item_digest(Item("b")) == "75d514b43ceeffa3"
