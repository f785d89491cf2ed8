"""Cut one video: what a worker of cut_clips does."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from torchaudio.functional import resample

from data_tools.cutting.face_crop import FaceRule, centred, find_face, load_faces
from data_tools.cutting.scene_cuts import SceneCuts
from data_tools.cutting.voice_activity import load_vad
from data_tools.verb.lists import RejectedError, Row, relative_to
from idlora_pl.media.clip import MediaError
from idlora_pl.media.orientation import Box
from idlora_pl.media.reading import MediaInfo, probe, read_part_sound
from idlora_pl.media.sound import UnusableSoundError, audible, fitted
from idlora_pl.media.strips import Strip, read_strips
from idlora_pl.media.writing import Sound, write_audio, write_pictures

LONGEST_FRAMES = 121
FAULTS = (ValueError, ArithmeticError, MemoryError, EOFError)
"""What reading a damaged or hostile file may end with; `MediaError` is a ValueError."""


@dataclass(frozen=True)
class Cut:
    """How clips are cut.

    Attributes:
        size: (H, W) of a clip.
        n_frames: frames of every clip; None takes 121, or the largest 8k + 1 of a shorter video.
        frame_rate_fps: of the clips.
        sample_rate_hz: of the sound inside the clips; it is kept at its own rate beside them.
        clips_per_video: how many clips one video gives at most; None takes all that fit.
        faces: folder with the weights of MTCNN; None crops at the centre, whatever is there.
        vad: the network of Silero VAD; None takes any sound.
        least_speech: least share of a clip that is speech.
        face: what a face must be like.
    """

    size: tuple[int, int]
    n_frames: int | None = None
    frame_rate_fps: float = 25.0
    sample_rate_hz: int = 16000
    clips_per_video: int | None = None
    faces: Path | None = None
    vad: Path | None = None
    least_speech: float = 0.3
    face: FaceRule = FaceRule()

    def settings(self) -> dict[str, object]:
        """Return what the clips depend on; where weights lie is not part of it."""
        values = asdict(self) | {"faces": self.faces is not None, "vad": self.vad is not None}
        return values | {"size": f"{self.size[0]}x{self.size[1]}"}


@dataclass(frozen=True)
class Video:
    """One video and what rows say of it.

    Attributes:
        path: where it is.
        source: what rows call it.
        name: what the keys of its clips begin with.
        output: folder of the lists.
        about: more entries of every row: speaker and consent.
        cut: how it is cut.
    """

    path: Path
    source: str
    name: str
    output: Path
    about: Row
    cut: Cut


def length_of(info: MediaInfo, cut: Cut) -> int:
    """Return the frames of every clip of a video.

    Raises:
        RejectedError: no_sound or too_short.
    """
    if info.sample_rate_hz == 0:
        raise RejectedError("no_sound", "no audio stream")
    available = round(min(info.duration_s, 1e6) * cut.frame_rate_fps)
    wanted = cut.n_frames or min(LONGEST_FRAMES, (available - 1) // 8 * 8 + 1)
    if available < wanted or wanted < 9:
        needed = f"{cut.n_frames or 9} are needed"
        raise RejectedError("too_short", f"{available} frames at {cut.frame_rate_fps:g} fps, {needed}")
    return wanted


def cut_video(video: Video) -> list[Row]:
    """Cut one video; return a row for every clip, and one with a "reason" for what is left out.

    Raises:
        OSError: when a clip cannot be written.
    """
    rows: list[Row] = []
    try:
        n_frames = length_of(probe(video.path), video.cut)
        strips = read_strips(video.path, n_frames, video.cut.frame_rate_fps, SceneCuts())
        for row in _cut_strips(video, strips, n_frames):
            rows.append(row)
            if sum("reason" not in row for row in rows) == video.cut.clips_per_video:
                break
        if not rows:
            raise RejectedError("unreadable", "no picture could be decoded")
    except RejectedError as error:
        rows.append(_left_out(video, 0.0, error))
    except FAULTS as error:
        rows.append(_left_out(video, rows[-1]["start_s"] if rows else 0.0, _unusable(error)))
    return rows


def _unusable(error: BaseException) -> RejectedError:
    reason = error.reason if isinstance(error, UnusableSoundError) else "unreadable"
    return RejectedError(reason, str(error) or type(error).__name__)


def _left_out(video: Video, start_s: float, error: RejectedError) -> Row:
    row = {"source": video.source, "start_s": round(start_s, 6), "reason": error.reason, "detail": error.detail}
    return row | video.about


def _cut_strips(video: Video, strips: Iterator[Strip], n_frames: int) -> Iterator[Row]:
    """Yield a row for every clip, and for every strip and scene that gives none."""
    index = 0
    for strip in strips:
        if not strip.complete:
            if strip.starts_scene:
                detail = f"a scene of {len(strip)} frames, {n_frames} are needed"
                yield _left_out(video, strip.start_s, RejectedError("too_short", detail))
            continue
        try:
            yield _clip_of(video, strip, f"{video.name}-{index:03d}")
        except RejectedError as error:
            yield _left_out(video, strip.start_s, error)
        index += 1


def _clip_of(video: Video, strip: Strip, key: str) -> Row:
    """Write the clip of one strip; return its row.

    Raises:
        RejectedError: when it is no clip of one talking person.
        OSError: when it cannot be written.
    """
    cut, duration_s = video.cut, len(strip) / video.cut.frame_rate_fps
    try:
        sound, rate_hz = read_part_sound(video.path, strip.start_s, duration_s)
        heard = _heard(sound, rate_hz, cut)
        seen, box = _seen(strip, cut)
    except FAULTS as error:
        raise _unusable(error) from error
    waveform = fitted(resample(sound, rate_hz, cut.sample_rate_hz), round(duration_s * cut.sample_rate_hz))
    target, kept = (video.output / "clips" / f"{key}{suffix}" for suffix in (".mp4", ".wav"))
    try:
        write_audio(sound, kept, rate_hz)
        write_pictures(
            strip.cropped(box, cut.size),
            cut.frame_rate_fps,
            Sound(waveform.clamp(-1, 1), cut.sample_rate_hz),
            target,
            metadata={"source": video.source, "start_s": f"{strip.start_s:g}"},
            generated=False,
        )
    except (MediaError, OSError) as error:
        raise OSError(f"{target} cannot be written ({error}); make room and run the command again") from error
    lists = video.output / "clips.jsonl"
    files = {"path": relative_to(lists, target), "sound": relative_to(lists, kept), "sound_rate_hz": rate_hz}
    about = {"source": video.source, "start_s": round(strip.start_s, 6), "n_frames": len(strip)}
    size = {"duration_s": round(duration_s, 6), "height": cut.size[0], "width": cut.size[1]}
    return {"key": key} | files | about | size | seen | heard | video.about


def _heard(sound: Tensor, rate_hz: int, cut: Cut) -> Row:
    """Look whether somebody speaks; return what the row says about it."""
    audible(sound, "the sound")
    if cut.vad is None:
        return {}
    speech_s, duration_s = load_vad(cut.vad).speech_s(sound, rate_hz), sound.shape[1] / rate_hz
    if speech_s < cut.least_speech * duration_s:
        detail = f"{speech_s:.2f} s of {duration_s:.2f} s are speech, {cut.least_speech:g} of it is needed"
        raise RejectedError("no_speech", detail)
    return {"speech_s": round(speech_s, 3)}


def _seen(strip: Strip, cut: Cut) -> tuple[Row, Box]:
    """Look for the face; return what the row says about it, and the part of the picture to keep."""
    if cut.faces is None:
        return {}, centred(strip, cut.size)
    found = find_face(load_faces(cut.faces), strip, cut.frame_rate_fps, cut.size, cut.face)
    shares = [round(edge, 4) for edge in found.box]
    return {"crop": shares, "face_px": round(found.face_px, 1), "face_found": round(found.found_share, 3)}, found.box
