"""What every metric promises, on real networks with random weights and on clips that cannot be scored."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, Expected
from idlora_pl.metrics.lips import LipSync
from idlora_pl.metrics.sounds import EnvironmentAccuracy
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.words import ReferenceWordLeak, TranscriptErrorRate
from idlora_pl.nano.embedders import Instruments

N_CLIPS, SILENT, BROKEN = 6, 2, 4


@cache
def instruments() -> Instruments:
    torch.manual_seed(0)
    return Instruments().eval()


METRICS: dict[str, Callable[[], ClipMean]] = {
    "speaker_similarity": lambda: SpeakerSimilarity(instruments().speaker),
    "lip_sync": lambda: LipSync(instruments().lip_sync),
    "wer": lambda: TranscriptErrorRate(instruments().transcriber),
    "reference_word_leak": lambda: ReferenceWordLeak(
        instruments().transcriber, strangers=["aa", "eh ee", "oo er oh", "aa oh"]
    ),
    "environment_accuracy": lambda: EnvironmentAccuracy(instruments().environment),
}


def clips_for(name: str) -> tuple[list[Clip], list[Expected]]:
    """Six clips of half a second, one of which is silent and one holds NaN, and what a metric expects of them."""
    generator = torch.Generator().manual_seed(1)
    waveform = 0.1 * torch.randn(N_CLIPS, 1, 8000, generator=generator)
    waveform[SILENT] = 0.0
    waveform[BROKEN, 0, 7] = float("nan")
    frames = torch.randint(256, (N_CLIPS, 13, 3, 64, 64), generator=generator).to(torch.uint8)
    clips = [Clip(picture, sound, 25.0, 16000) for picture, sound in zip(frames, waveform, strict=True)]
    words = ["aa eh", "oo", "ee", "er aa oh", "oh", "ee oo"]
    leaked = ["aa", "oo oh", "er", "er aa", "oh oo", "ee"]
    expected = {
        "speaker_similarity": [Expected(0.1 * torch.randn(1, 9000, generator=generator)) for _ in clips],
        "lip_sync": [Expected() for _ in clips],
        "wer": [Expected(words=text) for text in words],
        "reference_word_leak": [
            Expected(words=text, reference_words=other) for text, other in zip(words, leaked, strict=True)
        ],
        "environment_accuracy": [
            Expected(environment=place) for place in ["quiet room", "howling wind", "bird song"] * 2
        ],
    }
    return clips, expected[name]


def pick(batch: tuple[list[Clip], list[Expected]], order: list[int]) -> tuple[list[Clip], list[Expected]]:
    """Return the clips of a batch in another order."""
    clips, expected = batch
    return [clips[i] for i in order], [expected[i] for i in order]


def result(metric: ClipMean) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.fixture(params=METRICS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_batches_give_what_the_whole_gives(name: str) -> None:
    whole, split = METRICS[name](), METRICS[name]()
    whole.update(*clips_for(name))
    for order in ([0], [1, 2, 3], [4, 5]):
        split.update(*pick(clips_for(name), order))
    assert result(split) == pytest.approx(result(whole), abs=1e-12)


def test_order_does_not_matter(name: str) -> None:
    forward, backward = METRICS[name](), METRICS[name]()
    forward.update(*clips_for(name))
    backward.update(*pick(clips_for(name), [5, 3, 1, 4, 2, 0]))
    assert result(backward) == pytest.approx(result(forward), abs=1e-12)


def test_a_mean_is_the_mean_of_the_rows(name: str) -> None:
    metric, batch = METRICS[name](), clips_for(name)
    metric.update(*batch)
    rows = []
    for i in range(N_CLIPS):
        alone = METRICS[name]()
        alone.update(*pick(batch, [i]))
        rows.append(result(alone)[name])
    assert result(metric)[name] == pytest.approx(torch.tensor(rows).nanmean().item(), abs=1e-6)
    assert [i for i, value in enumerate(rows) if value != value] == [SILENT, BROKEN]


def test_unscorable_clips_are_counted(name: str) -> None:
    metric = METRICS[name]()
    metric.update(*clips_for(name))
    assert (result(metric)[f"{name}/n_scored"], result(metric)[f"{name}/n_total"]) == (4, 6)


def test_only_unscorable_clips_have_no_mean(name: str) -> None:
    metric = METRICS[name]()
    metric.update(*pick(clips_for(name), [SILENT]))
    values = result(metric)
    assert values[name] != values[name]
    assert (values[f"{name}/n_scored"], values[f"{name}/n_total"]) == (0, 1)


def test_compute_before_update_is_refused(name: str) -> None:
    with (
        pytest.warns(UserWarning, match="before the ``update``"),
        pytest.raises(ValueError, match="no clip was given"),
    ):
        METRICS[name]().compute()


def test_clone_pickle_and_reset(name: str) -> None:
    metric = METRICS[name]()
    metric.update(*clips_for(name))
    copy, clone = pickle.loads(pickle.dumps(metric)), metric.clone()
    expected = result(metric)
    metric.reset()
    assert metric.n_total == 0
    for same in (copy, clone):
        assert result(same) == expected
        same.update(*clips_for(name))
        assert same.n_total == 2 * N_CLIPS


def test_clips_and_expectations_that_are_not_as_many_are_refused_before_any_is_counted(name: str) -> None:
    metric, (clips, expected) = METRICS[name](), clips_for(name)
    for too_few in ((clips, expected[:-1]), (clips, expected[0]), (clips[0], expected)):
        with pytest.raises(ValueError, match=r"expected must be one for each clip; got \d for \d clips"):
            metric.update(*too_few)
    assert metric.n_total == 0


def test_one_clip_is_a_sequence_of_one(name: str) -> None:
    alone, listed, (clips, expected) = METRICS[name](), METRICS[name](), clips_for(name)
    alone.update(clips[0], expected[0])
    listed.update(clips[:1], expected[:1])
    assert result(alone) == result(listed)
    assert alone.n_total == 1


def score_half(rank: int, folder: str) -> None:
    """Score every second clip in one of two processes; rank 0 writes the reduced result."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    values = {}
    for name, build in METRICS.items():
        metric = build()
        metric.update(*pick(clips_for(name), list(range(rank, N_CLIPS, 2))))
        values[name] = result(metric)
    if rank == 0:
        torch.save(values, f"{folder}/values.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    mp.spawn(score_half, args=(str(tmp_path),), nprocs=2)
    for name, values in torch.load(tmp_path / "values.pt", weights_only=True).items():
        alone = METRICS[name]()
        alone.update(*clips_for(name))
        assert values == pytest.approx(result(alone), abs=1e-12)
