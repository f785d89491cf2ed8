"""Cut videos into clips of 8k + 1 frames at 25 fps with their sound, ready for encoding."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from data_tools.command import run
from data_tools.manifest import RejectedError, Row, relative_to, write_rows
from data_tools.videos import SpeakerFrom, find_videos, name_videos, speaker_of
from idlora_pl.media import Clip, MediaError, MediaInfo, probe, read_clip, write_clip

LONGEST_FRAMES = 121
SILENCE = 1e-4


@dataclass(frozen=True)
class Cut:
    """How clips are cut.

    Attributes:
        size: (H, W) that a clip covers.
        n_frames: frames of every clip; None takes 121, or the largest 8k + 1 of a shorter video.
        frame_rate_fps: of the clips.
        sample_rate_hz: of their sound.
        clips_per_video: how many clips one video gives at most; None takes all that fit.
    """

    size: tuple[int, int]
    n_frames: int | None = None
    frame_rate_fps: float = 25.0
    sample_rate_hz: int = 16000
    clips_per_video: int | None = None


@dataclass(frozen=True)
class Segment:
    """A part of a video that becomes a clip."""

    start_s: float
    n_frames: int


def plan_segments(info: MediaInfo, cut: Cut) -> list[Segment]:
    """Choose the parts of one video that become clips: one after the other from its start."""
    if info.sample_rate_hz == 0:
        raise RejectedError("no_sound", "no audio stream")
    available = round(info.duration_s * cut.frame_rate_fps)
    wanted = cut.n_frames or min(LONGEST_FRAMES, (available - 1) // 8 * 8 + 1)
    if available < wanted or wanted < 9:
        needed = f"{cut.n_frames or 9} are needed"
        raise RejectedError("too_short", f"{available} frames at {cut.frame_rate_fps:g} fps, {needed}")
    count = min(available // wanted, cut.clips_per_video or available)
    return [Segment(k * wanted / cut.frame_rate_fps, wanted) for k in range(count)]


def read_segment(path: Path, segment: Segment, cut: Cut) -> Clip:
    """Read one part of a video; more than two channels are mixed to one."""
    clip = read_clip(
        path,
        start_s=segment.start_s,
        frame_rate_fps=cut.frame_rate_fps,
        n_frames=segment.n_frames,
        size=cut.size,
        sample_rate_hz=cut.sample_rate_hz,
    )
    if float(clip.waveform.abs().max()) < SILENCE:
        raise RejectedError("silent", f"loudest sample below {SILENCE}")
    if len(clip.waveform) > 2:
        mixed = clip.waveform.mean(0, keepdim=True)
        clip = Clip(clip.frames, mixed, clip.frame_rate_fps, clip.sample_rate_hz)
    return clip


def cut_video(path: Path, source: str, name: str, output: Path, cut: Cut) -> Iterator[Row]:
    """Cut one video; yield a row for every clip, or with a "reason" for what is left out.

    Args:
        path: the video.
        source: what rows call it.
        name: what the keys of its clips begin with.
        output: folder of the lists.
        cut: how.
    """
    try:
        segments = plan_segments(probe(path), cut)
    except RejectedError as error:
        yield {"source": source, "start_s": 0.0, "reason": error.reason, "detail": error.detail}
        return
    except MediaError as error:
        yield {"source": source, "start_s": 0.0, "reason": "unreadable", "detail": str(error)}
        return
    for index, segment in enumerate(segments):
        row = {"source": source, "start_s": round(segment.start_s, 6)}
        try:
            clip = read_segment(path, segment, cut)
        except RejectedError as error:
            yield row | {"reason": error.reason, "detail": error.detail}
            continue
        except MediaError as error:
            yield row | {"reason": "unreadable", "detail": str(error)}
            continue
        key = f"{name}-{index:03d}"
        target = output / "clips" / f"{key}.mp4"
        tags = {"source": source, "start_s": f"{segment.start_s:g}"}
        write_clip(clip, target, metadata=tags, generated=False)
        yield (
            {"key": key, "path": relative_to(output / "clips.jsonl", target)}
            | row
            | {
                "n_frames": segment.n_frames,
                "duration_s": round(clip.duration_s, 6),
                "height": cut.size[0],
                "width": cut.size[1],
            }
        )


def parse_size(text: str) -> tuple[int, int]:
    """Read "512" or "288x512" (height x width); both sides must be multiples of 32."""
    sides = [int(side) for side in text.split("x") if side.isdecimal()]
    if len(sides) != text.count("x") + 1 or len(sides) > 2 or any(side < 32 or side % 32 for side in sides):
        raise ValueError(f"size must be a multiple of 32 such as 512, or two as in 288x512; got '{text}'")
    return sides[0], sides[-1]


def cut_clips(
    source: str,
    output: str,
    size: str = "512",
    frames: int | None = None,
    frame_rate: float = 25.0,
    clips_per_video: int | None = None,
    speaker_from: SpeakerFrom = "folder",
) -> None:
    """Cut videos into clips of 8k + 1 frames with 16 kHz sound.

    Writes OUTPUT/clips/*.mp4, OUTPUT/clips.jsonl with a row for every clip, and OUTPUT/rejected.jsonl with a
    row and a reason (unreadable, no_sound, silent, too_short) for everything that was left out.

    Args:
        source: A video file or a folder; folders are searched through.
        output: A new folder.
        size: Side in pixels that clips cover, cropped at the centre: 512, or height x width as in 288x512.
        frames: Frames of every clip, 8k + 1; by default 121, or the largest 8k + 1 that a shorter video has.
        frame_rate: Frames per second of the clips.
        clips_per_video: How many clips one video gives at most; by default all that fit.
        speaker_from: Whose name is the speaker: the folder's, the file's, or none's.
    """
    if frames is not None and (frames < 9 or frames % 8 != 1):
        raise ValueError(f"frames must be 8k + 1 (9, 17, ..., 73, ..., 121); got {frames}")
    cut = Cut(parse_size(size), frames, frame_rate, clips_per_video=clips_per_video)
    root, folder = Path(source), Path(output)
    if (folder / "clips.jsonl").exists():
        raise ValueError(f"{folder / 'clips.jsonl'} exists already; choose a new folder")
    videos = {path.name if root.is_file() else path.relative_to(root).as_posix(): path for path in find_videos(root)}
    names = name_videos(list(videos))
    kept: list[Row] = []
    rejected: list[Row] = []
    with Progress() as progress:
        for video, path in progress.track(videos.items(), description="cutting"):
            for row in cut_video(path, video, names[video], folder, cut):
                row["speaker"] = speaker_of(path, speaker_from)
                (rejected if "reason" in row else kept).append(row)
    write_rows(folder / "rejected.jsonl", rejected)
    write_rows(folder / "clips.jsonl", kept)
    Console().print(f"{len(kept)} clips of {len(videos)} videos in {folder}, {len(rejected)} rejected")
    if not kept:
        raise ValueError(f"no video gave a clip; {folder / 'rejected.jsonl'} has the reasons")


if __name__ == "__main__":
    run(cut_clips)
