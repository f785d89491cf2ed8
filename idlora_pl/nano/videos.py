"""Videos of the nano world with the truth about them, as input for `data_tools`.

`python -m idlora_pl.nano.videos OUTPUT` writes

    <speaker>/<speaker>-<k>.mp4   videos of 1.32 s a clip; the clips of one video are in one environment,
                                  video k and video k + 1 are in different ones
    truth.jsonl                   a line a video: source, speaker, environment, prompt, environment_sounds,
                                  speaking_style

Prompts are those of a video's first clip; with one clip a video, which is the default, they are those of all clips.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from idlora_pl.files import write_json_lines
from idlora_pl.media.clip import Clip
from idlora_pl.media.writing import write_clip
from idlora_pl.nano.corpus import SPLITS, split_seed
from idlora_pl.nano.render import render
from idlora_pl.nano.world import FRAME_RATE_FPS, SAMPLE_RATE_HZ, Script, script, speaker

TRUTH = "truth.jsonl"
_STYLE = "Neutral voice at conversational volume"
_SCRIPTS = 5_000_000_000
"""Scripts from here on are used by no other part of the nano world; no two clips of a set share one."""


@dataclass(frozen=True)
class Video:
    """One video to write.

    Attributes:
        who: seed of its speaker.
        number: of the video among the speaker's.
        scripts: what each of its clips says.
    """

    who: int
    number: int
    scripts: tuple[Script, ...]

    @property
    def source(self) -> str:
        """Path of the file below the folder of videos."""
        return f"s{self.who:07d}/s{self.who:07d}-{self.number:03d}.mp4"

    def truth(self) -> dict[str, Any]:
        """Return what is known about it."""
        first = self.scripts[0]
        return {
            "source": self.source,
            "speaker": f"s{self.who:07d}",
            "environment": first.environment,
            "prompt": first.prompt,
            "environment_sounds": first.environment,
            "speaking_style": _STYLE,
        }


def plan_videos(split: str, n_speakers: int, n_videos: int, clips_per_video: int, *, offset: int = 0) -> list[Video]:
    """Choose what is said in the videos of the speakers of a split, `offset` speakers later than its first."""
    found = []
    for who in (split_seed(split, offset + index) for index in range(n_speakers)):
        firsts: list[Script] = []
        for number in range(n_videos):
            seeds = [_SCRIPTS + (who * n_videos + number) * clips_per_video + k for k in range(clips_per_video)]
            first = script(seeds[0], avoid=firsts[-1:])
            more = [replace(script(seed), environment=first.environment) for seed in seeds[1:]]
            found.append(Video(who, number, (first, *more)))
            firsts.append(first)
    return found


def write_video(video: Video, folder: Path) -> None:
    """Render a video, its clips one after the other."""
    made = render([speaker(video.who)] * len(video.scripts), video.scripts)
    whole = Clip(made.frames.flatten(0, 1), made.waveform.reshape(1, -1), FRAME_RATE_FPS, SAMPLE_RATE_HZ)
    write_clip(whole, folder / video.source, generated=False)


def _write_all(videos: Sequence[Video], folder: Path) -> None:
    torch.set_num_threads(1)
    for video in videos:
        write_video(video, folder)


def write_videos(videos: Sequence[Video], folder: Path, *, workers: int = 1) -> None:
    """Write videos and, when all are there, the truth about them; files that are there already are kept."""
    missing = [video for video in videos if not (folder / video.source).exists()]
    chunks = [missing[start : start + 8] for start in range(0, len(missing), 8)]
    for _ in track(_written(chunks, folder, workers), description="writing videos", total=len(chunks)):
        pass
    write_json_lines(folder / TRUTH, (video.truth() for video in videos))


def _written(chunks: Sequence[Sequence[Video]], folder: Path, workers: int) -> Iterator[None]:
    if workers <= 1:
        for chunk in chunks:
            _write_all(chunk, folder)
            yield
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_write_all, chunks, [folder] * len(chunks))


def main(arguments: list[str] | None = None) -> None:
    """Write videos from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--speakers", type=int, default=40)
    parser.add_argument("--clips", type=int, default=10, help="clips of each speaker")
    parser.add_argument("--clips_per_video", "--clips-per-video", type=int, default=1, help="must divide --clips")
    parser.add_argument("--split", choices=SPLITS, default="validation", help="whose speakers are shown")
    parser.add_argument("--offset", type=int, default=0, help="how many speakers of the split are left out")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    if min(options.speakers, options.clips, options.clips_per_video) < 1 or options.clips % options.clips_per_video:
        sys.exit(
            f"--clips {options.clips} of --speakers {options.speakers} cannot be put into videos of "
            f"--clips-per-video {options.clips_per_video}; all must be at least 1 and the last divide the first"
        )
    videos = plan_videos(
        options.split,
        options.speakers,
        options.clips // options.clips_per_video,
        options.clips_per_video,
        offset=options.offset,
    )
    write_videos(videos, options.output, workers=options.workers)


if __name__ == "__main__":
    main()
