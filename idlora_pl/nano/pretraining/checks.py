"""What the instruments are worth: their errors on speakers that they were not trained on.

Letters: N clips, P pairs, D embedding size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics.functional.text import word_error_rate

from idlora_pl.metrics.functional import lip_sync_scores
from idlora_pl.nano.embedders import Instruments
from idlora_pl.nano.pretraining.clips import InstrumentClips
from idlora_pl.nano.world import VOWELS

SHIFT = 2
"""Frames by which the video is moved to see whether the lip-sync instrument notices."""


def equal_error_rate(same: Tensor, different: Tensor) -> float:
    """Return the error rate at the threshold where false alarms and misses are equal.

    Args:
        same: (P,) similarities of pairs of one speaker.
        different: (P',) similarities of pairs of two speakers.

    Example:
        >>> equal_error_rate(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2]))
        0.0
    """
    thresholds = torch.cat([same, different]).unique()
    misses = torch.searchsorted(same.sort().values, thresholds) / len(same)
    false_alarms = 1 - torch.searchsorted(different.sort().values, thresholds) / len(different)
    best = (misses - false_alarms).abs().argmin()
    return ((misses[best] + false_alarms[best]) / 2).item()


def speaker_check(embeddings: Tensor, speakers: Tensor) -> dict[str, float]:
    """Compare all pairs of clips.

    Args:
        embeddings: (N, D).
        speakers: (N,) int64.

    Returns:
        Equal error rate, mean cosines, and how often the closest of all other clips is of the same speaker.
    """
    cosines = torch.nn.functional.normalize(embeddings, dim=-1)
    cosines = cosines @ cosines.T
    alike = speakers[:, None] == speakers
    upper = torch.ones_like(alike).triu(1)
    same, different = cosines[alike & upper], cosines[~alike & upper]
    nearest = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool), -2).argmax(1)
    return {
        "speaker_eer": equal_error_rate(same, different),
        "speaker_cosine_same": same.mean().item(),
        "speaker_cosine_different": different.mean().item(),
        "speaker_top1": (speakers[nearest] == speakers).float().mean().item(),
        "speaker_n_same_pairs": len(same),
        "speaker_n_different_pairs": len(different),
    }


def lip_sync_check(audio: Tensor, video: Tensor) -> dict[str, float]:
    """Score matching clips, clips whose video was moved, and sound with the video of the next clip.

    Args:
        audio: (N, T, D) unit vectors.
        video: (N, T, D) unit vectors.
    """
    matching = [lip_sync_scores(a, v) for a, v in zip(audio, video, strict=True)]
    late = [lip_sync_scores(a[:-SHIFT], v[SHIFT:]) for a, v in zip(audio, video, strict=True)]
    early = [lip_sync_scores(a[SHIFT:], v[:-SHIFT]) for a, v in zip(audio, video, strict=True)]
    wrong = [lip_sync_scores(a, v) for a, v in zip(audio, video.roll(1, 0), strict=True)]
    shifted = [one.lip_offset == -SHIFT for one in late] + [one.lip_offset == SHIFT for one in early]
    n_clips = len(matching)
    return {
        "lip_offset_0": sum(one.lip_offset == 0 for one in matching) / n_clips,
        "lip_shift_2_found": sum(shifted) / len(shifted),
        "lip_sync_matching": sum(one.lip_sync for one in matching) / n_clips,
        "lip_sync_shifted_2": sum(one.lip_sync for one in late + early) / len(shifted),
        "lip_sync_mismatched": sum(one.lip_sync for one in wrong) / n_clips,
        "lip_offset_0_mismatched": sum(one.lip_offset == 0 for one in wrong) / n_clips,
        "lip_n_clips": n_clips,
    }


def expected_words(phones: Tensor) -> str:
    """Return the vowels of phone labels (T,), which are -1 between words."""
    names = list(VOWELS)
    return " ".join(names[index] for index in phones.unique_consecutive().tolist() if index >= 0)


@torch.no_grad()
def check(instruments: Instruments, clips: InstrumentClips) -> Mapping[str, float]:
    """Measure the four instruments on clips with video of unseen speakers."""
    embeddings, words, places, audio, video = [], [], [], [], []
    for start in range(0, len(clips.mel), 50):
        batch = clips[torch.arange(start, min(start + 50, len(clips.mel)))]
        embeddings.append(instruments.speaker(batch.mel))
        words += [instruments.transcriber.words(row) for row in instruments.transcriber(batch.mel).argmax(1).tolist()]
        places.append(instruments.environment(batch.mel).argmax(1))
        sound, mouth = instruments.lip_sync(batch.mel, batch.mouths)
        audio.append(sound)
        video.append(mouth)
    expected = [expected_words(row) for row in clips.phones]
    return {
        **speaker_check(torch.cat(embeddings), clips.speakers),
        "phoneme_error_rate": word_error_rate(words, expected).item(),
        "phoneme_n": sum(len(line.split()) for line in expected),
        "environment_accuracy": (torch.cat(places) == clips.environments).float().mean().item(),
        "environment_n": len(clips.mel),
        **lip_sync_check(torch.cat(audio), torch.cat(video)),
    }
