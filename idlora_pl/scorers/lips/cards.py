"""The lip-sync scorers by name, and what proves them: public clips with known values."""

from collections.abc import Callable
from pathlib import Path

import torch

from idlora_pl.files import files_below
from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import read_clip
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.lip_lag import LipLag, peak_of
from idlora_pl.metrics.lips import LipCoherence, LipDistances
from idlora_pl.scorers.card import Anchor, Card, Inputs
from idlora_pl.scorers.face.mtcnn import MTCNN_FILES
from idlora_pl.scorers.face.tracking import load_tracker
from idlora_pl.scorers.scores import SCORES
from idlora_pl.scorers.weights import WeightFile

EXAMPLE = "syncnet/example.avi"
COHERENCE_CLIPS = ("s1/bbaf2n.mpg", "s3/sbia1a.mpg", "s4/lwbsza.mpg")
LAG_CLIPS = (
    *("s1/bbaf2n.mpg", "s1/lwbs1s.mpg", "s1/pgwe6n.mpg", "s1/swav1a.mpg"),
    *("s2/pwij3p.mpg", "s3/sbia1a.mpg", "s4/lwbsza.mpg", "s5/lbax4n.mpg"),
)
GRID = "the GRID corpus, https://zenodo.org/records/3625687, as INPUTS/grid/s1/bbaf2n.mpg and so on"
QUIET = 3e-4
"""Amplitude of the noise that stands for silence, about -70 dB: digital silence would not be scored at all."""


def syncnet_example(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Score SyncNet's own example, which is a crop of a face already."""
    assert isinstance(metric, LipDistances)
    clip = read_clip(inputs / EXAMPLE)
    crop = LipDistances(metric.embedder, None, max_offset=metric.max_offset, min_steps=metric.min_steps)
    score = crop.score(
        mono(clip.waveform), clip.frames, sample_rate_hz=clip.sample_rate_hz, frame_rate_fps=clip.frame_rate_fps
    )
    return score.values


def coherence_on_grid(clips: tuple[str, ...] = COHERENCE_CLIPS) -> Callable[[ClipMean, Inputs], dict[str, float]]:
    """Return what measures LR-ASD on clips of GRID.

    It gives the shares of clips whose own sound beats the same sound rolled by half, and silence, and the mean score of
    the clips with their own sound.
    """

    def measure(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
        assert isinstance(metric, LipCoherence)
        rows = [_coherences(metric, read_clip(inputs / "grid" / name)) for name in clips]
        return {
            "above_rolled": sum(own > rolled for own, rolled, _ in rows) / len(rows),
            "above_silence": sum(own > silent for own, _, silent in rows) / len(rows),
            "mean": sum(own for own, _, _ in rows) / len(rows),
        }

    return measure


def _coherences(metric: LipCoherence, clip: Clip) -> tuple[float, float, float]:
    """Score frames with their own sound, with it rolled by half, and with noise at -70 dB."""
    own = mono(clip.waveform)
    noise = QUIET * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    scores = [
        metric.score(sound, clip.frames, sample_rate_hz=clip.sample_rate_hz, frame_rate_fps=clip.frame_rate_fps)
        for sound in (own, own.roll(len(own) // 2), noise)
    ]
    first, second, third = (score.values.get(metric.names[0], float("nan")) for score in scores)
    return first, second, third


def lag_on_grid(clips: tuple[str, ...] = LAG_CLIPS) -> Callable[[ClipMean, Inputs], dict[str, float]]:
    """Return what measures the lag of clips of GRID: the peak of their mean correlation."""

    def measure(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
        assert isinstance(metric, LipLag)
        each = [metric.correlations(read_clip(inputs / "grid" / name)) for name in clips]
        lag, correlation = peak_of(torch.stack(each).mean(0))
        return {"lag": lag, "correlation": correlation}

    return measure


def grid_clips(inputs: Path) -> tuple[str, ...]:
    """Return all clips of GRID that are there, except the copy in another size."""
    found = [path for path in files_below(inputs / "grid", (".mpg",)) if path.parent.parent == inputs / "grid"]
    return tuple(str(path.relative_to(inputs / "grid")) for path in found if "720x576" not in path.name)


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data"
_SYNCNET = WeightFile(
    "lipsync/syncnet_v2.model",
    "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
    f"curl -L --create-dirs -o WEIGHTS/lipsync/syncnet_v2.model {_OXFORD}/syncnet_v2.model",
    "MIT (joonson/syncnet_python)",
)
_LR_ASD = WeightFile(
    "lipsync/lr_asd_pretrain_AVA.model",
    "85e6c77fc981595234790d1e128ebb60352d37726b2445e0ef8891e2512fe9e3",
    "curl -L --create-dirs -o WEIGHTS/lipsync/lr_asd_pretrain_AVA.model "
    "https://github.com/Junhua-Liao/LR-ASD/raw/main/weight/pretrain_AVA.model",
    "MIT (Junhua-Liao/LR-ASD)",
)
_LANDMARKER = WeightFile(
    "face/face_landmarker.task",
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    "curl -L --create-dirs -o WEIGHTS/face/face_landmarker.task https://storage.googleapis.com/mediapipe-models/"
    "face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    "Apache-2.0 (MediaPipe)",
)


def _syncnet(weights: Path) -> ClipMean:
    from idlora_pl.scorers.lips.syncnet import load_syncnet

    return LipDistances(load_syncnet(weights / _SYNCNET.path), load_tracker(weights))


def _lr_asd(weights: Path) -> ClipMean:
    from idlora_pl.scorers.lips.lr_asd import load_lr_asd

    return LipCoherence(load_lr_asd(weights / _LR_ASD.path), load_tracker(weights))


def _landmarks(weights: Path) -> ClipMean:
    from idlora_pl.scorers.lips.mouth import MouthLandmarks

    return LipLag(MouthLandmarks(weights / _LANDMARKER.path))


CARDS = (
    Card(
        "lse",
        "Distance of sound and mouth by SyncNet at the best offset (LSE-D), its confidence (LSE-C), and the offset.",
        SCORES["lse"],
        (_SYNCNET, *MTCNN_FILES),
        _syncnet,
        Anchor(
            "SyncNet's own example, which is a face crop: offset 3, smallest distance 5.353, confidence 10.021 "
            "(README of joonson/syncnet_python). The sound is resampled and the picture decoded by other code here.",
            {"lip_offset": 3.0, "lse_d": 5.353, "lse_c": 10.021},
            {"lip_offset": 0.0, "lse_d": 0.05, "lse_c": 0.1},
            syncnet_example,
            (EXAMPLE,),
            f"curl -L --create-dirs -o INPUTS/{EXAMPLE} {_OXFORD}/example.avi",
        ),
        packages=("torch", "torchaudio"),
        notes="25 fps, 16 kHz, offsets up to 15 frames, + when the sound is early. The face is found by MTCNN, the "
        "published tool uses S3FD, so a row may differ a little from the tool's; the crop is in the row. Clips below "
        "0.84 s are too short; the tool itself needs 4 s. MoChaBench publishes 1, 9.255, 4.497 for its own example.",
    ),
    Card(
        "lip_coherence_lrasd",
        "Log odds that the face says what is heard, by LR-ASD, mean over the frames with sound.",
        SCORES["lip_coherence_lrasd"],
        (_LR_ASD, *MTCNN_FILES),
        _lr_asd,
        Anchor(
            "Three clips of GRID: the share whose own sound scores above the same sound rolled by half, and above "
            "noise at -70 dB, and the mean with their own sound, recorded with these weights.",
            {"above_rolled": 1.0, "above_silence": 1.0, "mean": 7.08},
            {"above_rolled": 0.0, "above_silence": 0.0, "mean": 0.3},
            coherence_on_grid(),
            tuple(f"grid/{name}" for name in COHERENCE_CLIPS),
            GRID,
        ),
        packages=("torch", "torchaudio"),
        notes="Tells a talking face from one that does not talk to this sound; it does not measure an offset, and the "
        "speech of another sentence passes about half of the time. Clips below 0.76 s, what the network sees around "
        "one frame, are too short.",
    ),
    Card(
        "lip_lag_landmarks",
        "Frames by which the loudness of the voice is ahead of the opening of the mouth, from MediaPipe's landmarks.",
        SCORES["lip_lag_landmarks"],
        (_LANDMARKER,),
        _landmarks,
        Anchor(
            "Eight clips of GRID: where the mean of their correlations peaks, and how high, recorded with this file; "
            "other filters gave +1 frame and 0.39 on 25 clips.",
            {"lag": 0.25, "correlation": 0.63},
            {"lag": 0.25, "correlation": 0.05},
            lag_on_grid(),
            tuple(f"grid/{name}" for name in LAG_CLIPS),
            GRID,
        ),
        packages=("torch", "mediapipe"),
        extra="eval",
        notes="In frames of 0.04 s, + when the sound is early, as SyncNet's offset. A frame stands for the middle "
        "of its time on screen, and the loudness for that of its 40 ms: a painted mouth of known lag gives that lag. "
        "Who counts either from its start finds half a frame more or less, and one who looks at whole frames only "
        "rounds. One clip of 3 s is noisy: 22 of 26 clips of GRID are within 2 frames of the pooled lag. Lags beyond "
        "10 frames are not seen.",
    ),
)
