"""Deal clips out to splits, compare those of all splits, and refuse what is in two.

Recordings are compared by a print that stays nearly the same when one is coded again, played louder or resampled.
Letters: M mel bands, T time steps, S samples.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor, nn
from torchaudio.functional import resample
from torchaudio.transforms import MelSpectrogram

from data_tools.pairing.leaks import CERTAIN, LeakRule, View, find_leaks, leak_report
from data_tools.pairing.pairing import record_of
from data_tools.pairing.splits import SPLITS, parse_shares, split_speakers
from data_tools.speakers.embedders import Embedder, available_face, choose_embedder
from data_tools.speakers.remembered import embed_clips, stacked
from data_tools.verb.lists import Row, located
from idlora_pl.files import replacing, sha256_of
from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import mono
from idlora_pl.metrics.scorable import check_waveform


@dataclass(frozen=True)
class Checks:
    """How splits are compared.

    Attributes:
        voice: speaker network by the name of its scorer, or "none".
        face: face network by the name of its scorer, "auto", or "none".
        weights: folder of their weights.
        embeddings: folder where embeddings are kept.
        n_workers: processes.
    """

    voice: str
    face: str
    weights: Path
    embeddings: Path
    n_workers: int

    def embedders(self) -> list[Embedder]:
        """Return the networks that are asked for.

        Raises:
            ValueError: a name is wrong.
            Unavailable: weights or a library are missing.
        """
        face = available_face(self.weights) if self.face == "auto" else self.face
        chosen = {"voice": self.voice, "face": face or "none"}
        return [
            choose_embedder(view, name, self.weights, None)  # type: ignore[arg-type]
            for view, name in chosen.items()
            if name != "none"
        ]


def check_splits(rows: Sequence[Row], files: Sequence[Path], checks: Checks) -> Row:
    """Return leaks.json.

    Args:
        rows: N clips with key, speaker, source and split.
        files: their files.
        checks: what is compared.
    """
    hashes = [sha256_of(file) for file in files]
    networks = checks.embedders()
    looks: list[Embedder | SoundPrint] = [SoundPrint(), *networks]
    by_file = dict(zip(files, hashes, strict=True))
    known = embed_clips(by_file, looks, checks.embeddings, workers=checks.n_workers)
    vectors = [stacked([known[one.name][digest] for digest in hashes]) for one in looks]
    views = [View("same_sound", looks[0].name, vectors[0], SAME_SOUND)]
    for one, seen in zip(networks, vectors[1:], strict=True):
        views.append(View(f"same_{one.view}", one.name, np.asarray(seen), one.threshold))
    unchecked = {
        f"same_{name}": f"no --{name} network was asked for, or its weights are not here"
        for name in ("voice", "face")
        if not any(one.view == name for one in networks)
    }
    return leak_report(rows, find_leaks(rows, hashes, views), views, unchecked)


def split_rows(rows: dict[str, Row], split: str, seed: int, clips: Path) -> dict[str, Row]:
    """Return rows with their split; a clip without a speaker has none."""
    named = [row for row in rows.values() if row["speaker"]]
    if split == "given":
        for row in named:
            if row.get("split") not in SPLITS:
                raise ValueError(
                    f"{clips}: clip {row['key']} has split {row.get('split')!r}; write one of {', '.join(SPLITS)}, or "
                    "give --split three shares"
                )
        return rows
    of = split_speakers([record_of(row) for row in named], parse_shares(split), seed=seed)
    return {key: row | {"split": of.get(row["speaker"])} for key, row in rows.items()}


def refuse_leaks(rows: dict[str, Row], clips: Path, target: Path, checks: Checks, leaks: LeakRule) -> None:
    """Write leaks.json beside a list of pairs, and say what is in it.

    Raises:
        ValueError: there is something that `leaks` refuses.
    """
    named = [row for row in rows.values() if row["speaker"]]
    report = check_splits(named, [located(clips, row["path"]) for row in named], checks)
    path = target.with_name("leaks.json")
    with replacing(path) as partial:
        partial.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    counts = {kind: about["found"] for kind, about in report["checked"].items()}
    sizes = ", ".join(f"{name} {size['clips']} clips of {size['speakers']}" for name, size in report["splits"].items())
    console = Console(soft_wrap=True)
    console.print(f"splits: {sizes} speakers", highlight=False)
    console.print("leaks: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()), highlight=False)
    refused = {"refuse": CERTAIN, "refuse_suspected": tuple(counts), "report": ()}[leaks]
    if wrong := {kind: counts[kind] for kind in refused if counts.get(kind)}:
        listed = ", ".join(f"{kind} {count}" for kind, count in wrong.items())
        raise ValueError(
            f"there are leaks between splits ({listed}), see {path}; join the speakers with find_speakers --labels, "
            "leave the clips out, or pass --leaks report"
        )


_RATE_HZ, _N_MELS, _N_STEPS = 16000, 32, 16


SAME_SOUND = 0.94
"""Cosine from which two prints are of one recording. Measured on 400 nano, 70 LibriSpeech and 27 GRID clips: those of
different people reach 0.916; copies in AAC or MP3 of 32 kbit/s, at a third of the level, or 20 ms late, stay above
0.950, copies at 8 kHz above 0.895. A copy that begins 0.1 s later is only found when it is long."""


@dataclass(frozen=True)
class SoundPrint:
    """Log-mel energies of 32 bands in 16 steps, less the mean of each band; an embedder without weights."""

    name: str = "sound_print"
    digest: str = "mel32x16"

    def embed(self, clip: Clip) -> Tensor:
        """Return the print (M * T,) of the sound of a clip.

        Raises:
            Unscorable: there is no sound, or it is silent.
        """
        voice = check_waveform(mono(clip.waveform), clip.sample_rate_hz)
        mel = (_mel()(resample(voice, clip.sample_rate_hz, _RATE_HZ)) + 1e-6).log()
        steps = nn.functional.adaptive_avg_pool1d(mel[None], _N_STEPS)[0]
        return (steps - steps.mean(1, keepdim=True)).flatten()


@cache
def _mel() -> nn.Module:
    return MelSpectrogram(_RATE_HZ, n_fft=512, hop_length=160, n_mels=_N_MELS, f_min=50.0, f_max=7600.0)
