"""What every metric promises, on real networks with random weights and on clips that cannot be scored."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.metrics.lips import LipSync
from idlora_pl.metrics.sounds import EnvironmentAccuracy
from idlora_pl.metrics.speaker import SpeakerSimilarity
from idlora_pl.metrics.words import ReferenceWordLeak, TranscriptErrorRate
from idlora_pl.nano.embedders import Instruments

Batch = dict[str, torch.Tensor | list[str] | float | int]
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


def batch_for(name: str) -> Batch:
    """Six clips of half a second; one is silent and one holds NaN."""
    generator = torch.Generator().manual_seed(1)
    waveform = 0.1 * torch.randn(N_CLIPS, 8000, generator=generator)
    waveform[SILENT] = 0.0
    waveform[BROKEN, 7] = float("nan")
    rest: dict[str, Batch] = {
        "speaker_similarity": {"reference": 0.1 * torch.randn(N_CLIPS, 9000, generator=generator)},
        "lip_sync": {
            "frames": torch.randint(256, (N_CLIPS, 13, 3, 64, 64), generator=generator).to(torch.uint8),
            "frame_rate_fps": 25.0,
        },
        "wer": {"words": ["aa eh", "oo", "ee", "er aa oh", "oh", "ee oo"]},
        "reference_word_leak": {
            "words": ["aa eh", "oo", "ee", "er aa oh", "oh", "ee oo"],
            "reference_words": ["aa", "oo oh", "er", "er aa", "oh oo", "ee"],
        },
        "environment_accuracy": {"environment": ["quiet room", "howling wind", "bird song"] * 2},
    }
    return {"waveform": waveform, "sample_rate_hz": 16000} | rest[name]


def pick(batch: Batch, order: list[int]) -> Batch:
    """Return the clips of a batch in another order."""
    chosen = dict(batch)
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            chosen[name] = value[order]
        elif isinstance(value, list):
            chosen[name] = [value[i] for i in order]
    return chosen


def result(metric: ClipMean) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.fixture(params=METRICS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_batches_give_what_the_whole_gives(name: str) -> None:
    whole, split = METRICS[name](), METRICS[name]()
    whole.update(**batch_for(name))
    for order in ([0], [1, 2, 3], [4, 5]):
        split.update(**pick(batch_for(name), order))
    assert result(split) == pytest.approx(result(whole), abs=1e-12)


def test_order_does_not_matter(name: str) -> None:
    forward, backward = METRICS[name](), METRICS[name]()
    forward.update(**batch_for(name))
    backward.update(**pick(batch_for(name), [5, 3, 1, 4, 2, 0]))
    assert result(backward) == pytest.approx(result(forward), abs=1e-12)


def test_a_mean_is_the_mean_of_the_rows(name: str) -> None:
    metric, batch = METRICS[name](), batch_for(name)
    metric.update(**batch)
    rows = []
    for i in range(N_CLIPS):
        alone = METRICS[name]()
        alone.update(**pick(batch, [i]))
        rows.append(result(alone)[name])
    assert result(metric)[name] == pytest.approx(torch.tensor(rows).nanmean().item(), abs=1e-6)
    assert [i for i, value in enumerate(rows) if value != value] == [SILENT, BROKEN]


def test_unscorable_clips_are_counted(name: str) -> None:
    metric = METRICS[name]()
    metric.update(**batch_for(name))
    assert (result(metric)[f"{name}/n_scored"], result(metric)[f"{name}/n_total"]) == (4, 6)


def test_only_unscorable_clips_have_no_mean(name: str) -> None:
    metric = METRICS[name]()
    metric.update(**pick(batch_for(name), [SILENT]))
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
    metric.update(**batch_for(name))
    copy, clone = pickle.loads(pickle.dumps(metric)), metric.clone()
    expected = result(metric)
    metric.reset()
    assert metric.n_total == 0
    for same in (copy, clone):
        assert result(same) == expected
        same.update(**batch_for(name))
        assert same.n_total == 2 * N_CLIPS


def test_a_batch_of_wrong_shape_is_refused(name: str) -> None:
    batch = batch_for(name)
    with pytest.raises(ValueError, match=r"waveform .*must be .*; got \(8000,\)"):
        METRICS[name]().update(**batch | {"waveform": torch.zeros(8000)})
    with pytest.raises(ValueError, match=r"waveform .*must be .*; got \(2, 8000\)"):
        METRICS[name]().update(**batch | {"waveform": torch.zeros(2, 8000)})


def test_one_string_is_not_a_batch_of_strings() -> None:
    waveform = batch_for("wer")["waveform"]
    with pytest.raises(ValueError, match="got .* and one string"):
        METRICS["wer"]().update(waveform=waveform, words="aa eh", sample_rate_hz=16000)
    with pytest.raises(ValueError, match="got .* and 1 and 6 strings"):
        METRICS["reference_word_leak"]().update(
            waveform=waveform, words="aa eh", reference_words=["aa"] * 6, sample_rate_hz=16000
        )
    with pytest.raises(ValueError, match="got .* and one string"):
        METRICS["environment_accuracy"]().update(waveform=waveform, environment="wind", sample_rate_hz=16000)


def score_half(rank: int, folder: str) -> None:
    """Score every second clip in one of two processes; rank 0 writes the reduced result."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    values = {}
    for name, build in METRICS.items():
        metric = build()
        metric.update(**pick(batch_for(name), list(range(rank, N_CLIPS, 2))))
        values[name] = result(metric)
    if rank == 0:
        torch.save(values, f"{folder}/values.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    mp.spawn(score_half, args=(str(tmp_path),), nprocs=2)
    for name, values in torch.load(tmp_path / "values.pt", weights_only=True).items():
        alone = METRICS[name]()
        alone.update(**batch_for(name))
        assert values == pytest.approx(result(alone), abs=1e-12)
