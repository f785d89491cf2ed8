"""Clips to train and to check the instruments on: rendered, disturbed, and in part through the codecs.

What the generator makes is heard through the codecs' decoder, so the instruments must read a decoded clip as
well as a rendered one. Letters: N clips, T mel steps, F frames, S samples, B a batch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idlora_pl.nano.codecs import NanoCodecs
from idlora_pl.nano.features import MOUTH, LogMel
from idlora_pl.nano.render import RenderedClips, render
from idlora_pl.nano.world import SAMPLE_RATE_HZ, script, speaker

_BATCH = 32


@dataclass(frozen=True)
class InstrumentClips:
    """What the instruments see, with the truth about it.

    Attributes:
        mel: (N, 64, T) float32 log-mels of ``LogMel``.
        mouths: (N, F, 3, 28, 32) uint8, or (N, 0, 3, 28, 32) without video.
        speakers: (N,) int64, counted from 0.
        phones: (N, T) int64, -1 between words.
        environments: (N,) int64.
        decoded: (N,) bool, whether the clip went through the codecs.
    """

    mel: Tensor
    mouths: Tensor
    speakers: Tensor
    phones: Tensor
    environments: Tensor
    decoded: Tensor

    def __getitem__(self, index: Tensor) -> "InstrumentClips":
        """Return the clips of an index tensor."""
        return InstrumentClips(**{name: value[index] for name, value in vars(self).items()})

    def draw(self, n_clips: int, generator: torch.Generator) -> "InstrumentClips":
        """Draw a batch, half of it decoded clips and half not (all of one kind if there is only one)."""
        kinds = [found for kind in (True, False) if len(found := (self.decoded == kind).nonzero()[:, 0])]
        share = n_clips // len(kinds)
        return self[torch.cat([kind[torch.randint(len(kind), (share,), generator=generator)] for kind in kinds])]


def round_trip(
    clips: RenderedClips, codecs: NanoCodecs, *, noise: float = 0.0, generator: torch.Generator | None = None
) -> RenderedClips:
    """Send clips through the codecs and back.

    Args:
        clips: Rendered clips.
        codecs: The codecs.
        noise: Standard deviation of noise on the latents, whose own is one: a generator is never exact.
        generator: Source of the noise.
    """
    n_tokens = codecs.n_audio_tokens(clips.mouth.shape[1])
    audio = codecs.encode_audio(clips.waveform[:, None], SAMPLE_RATE_HZ)[:, :, :n_tokens]
    audio = audio + noise * torch.randn(audio.shape, generator=generator)
    sound = codecs.decode_audio(audio)[:, 0]
    if clips.frames.shape[1] == 0:
        return replace(clips, waveform=sound)
    video = codecs.encode_video(clips.frames)
    video = video + noise * torch.randn(video.shape, generator=generator)
    return replace(clips, waveform=sound, frames=codecs.decode_video(video))


def hiss(clips: RenderedClips, generator: torch.Generator) -> RenderedClips:
    """Add white noise 25 to 60 dB below the sound, another level for each clip."""
    noise = torch.randn(clips.waveform.shape, generator=generator)
    level_db = -25 - 35 * torch.rand(len(noise), 1, generator=generator)
    rms = clips.waveform.square().mean(1, keepdim=True).sqrt()
    return replace(clips, waveform=clips.waveform + noise * rms * 10 ** (level_db / 20))


@dataclass(frozen=True)
class Recipe:
    """How clips for the instruments are made.

    Attributes:
        scripts_per_speaker: Clips of each speaker.
        decoded_every: Every n-th batch goes through the codecs: 1 all of them, 0 none.
        disturbed: Whether to add hiss, and noise of random strength up to 0.3 on the latents.
        video: Whether to render the frames.
        seed: Seed of the disturbance.
    """

    scripts_per_speaker: int
    decoded_every: int
    disturbed: bool = False
    video: bool = False
    seed: int = 0


def make_clips(
    speaker_seeds: Sequence[int],
    recipe: Recipe,
    codecs: NanoCodecs,
    *,
    advance: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> InstrumentClips:
    """Render clips and look at them as the instruments do.

    Args:
        speaker_seeds: Seeds of the speakers; script j of a speaker has the seed ``1000 * speaker + j``.
        recipe: What to render and what to do to it.
        codecs: The codecs for the round trip.
        advance: Wraps the loop over batches, for a progress bar.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    pairs = [(place, j) for j in range(recipe.scripts_per_speaker) for place in range(len(speaker_seeds))]
    front, parts = LogMel(), list[InstrumentClips]()
    for number in advance(range(-(-len(pairs) // _BATCH))):
        batch = pairs[number * _BATCH : (number + 1) * _BATCH]
        speakers = [speaker(speaker_seeds[place]) for place, _ in batch]
        scripts = [script(1000 * speaker_seeds[place] + j) for place, j in batch]
        clips = render(speakers, scripts, video=recipe.video)
        decoded = recipe.decoded_every > 0 and number % recipe.decoded_every == 0
        if recipe.disturbed:
            clips = hiss(clips, generator)
        if decoded:
            noise = 0.3 * torch.rand(1, generator=generator).item() if recipe.disturbed else 0.0
            clips = round_trip(clips, codecs, noise=noise, generator=generator)
        parts.append(
            InstrumentClips(
                mel=front(clips.waveform, SAMPLE_RATE_HZ),
                mouths=clips.frames[..., MOUTH[0], MOUTH[1]],
                speakers=torch.tensor([place for place, _ in batch]),
                phones=clips.phones,
                environments=clips.environments,
                decoded=torch.full((len(batch),), decoded),
            )
        )
    return InstrumentClips(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})
