"""Cut videos into clips of one talking person, 8k + 1 frames at 25 fps with their sound, ready for encoding."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from data_tools.cutting.face_crop import refuse_missing_mtcnn
from data_tools.cutting.video import Cut, Video, cut_video
from data_tools.cutting.voice_activity import load_vad, vad_file
from data_tools.pairing.consents import Consent, read_consents, refuse_unmatched, told_consent
from data_tools.verb.command import print_summary, run
from data_tools.verb.ledger import Ledger, opened_ledger, state_of
from data_tools.verb.lists import (
    SPEAKER_FROM,
    Row,
    SpeakerFrom,
    find_videos,
    name_videos,
    part_unnamable,
    refuse_inside,
    speaker_of,
    write_rows,
)
from data_tools.verb.parallel import Crashed, n_workers_of, run_all


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
    speaker_from: SpeakerFrom = SPEAKER_FROM,
    faces: str | None = None,
    centre_crop: bool = False,
    vad: str | None = None,
    any_sound: bool = False,
    least_speech: float = 0.3,
    consent: Consent = "unknown",
    consents: str | None = None,
    workers: int | None = None,
) -> None:
    """Cut videos into clips of one face that speaks: 8k + 1 frames, cropped around the face, with 16 kHz sound.

    Writes OUTPUT/clips/*.mp4 and beside each the sound at its own rate as wav, OUTPUT/clips.jsonl with a row for every
    clip, and OUTPUT/rejected.jsonl with a row and a reason (unreadable, no_sound, silent, not_finite, too_short,
    no_speech, no_face, several_faces, face_lost, face_small, crashed, bad_name) for everything that was left out. A run
    that was interrupted continues; equal videos and options give equal files.

    Args:
        source: A video file or a folder; folders are searched through, but for hidden ones.
        output: A new folder, or that of an interrupted run.
        size: Side in pixels of the clips: 512, or height x width as in 288x512.
        frames: Frames of every clip, 8k + 1; by default 121, or the largest 8k + 1 that a shorter video has.
        frame_rate: Frames per second of the clips.
        clips_per_video: How many clips one video gives at most; by default all that fit.
        speaker_from: Whose name is the speaker: that of the folder in the source, the file's, or none's, for
            find_speakers to find out.
        faces: Folder with the weights of MTCNN (face/mtcnn_pnet.pt, ...), which finds the face.
        centre_crop: Look for no face and crop at the centre.
        vad: silero_vad.onnx, or a folder with vad/silero_vad.onnx, which finds speech.
        any_sound: Take any sound that is not silence for speech.
        least_speech: Least share of a clip that is speech.
        consent: How the people in the videos agreed to their use.
        consents: JSON file {"<video, folder or speaker>": "<consent>"} for those of whom something else is known.
        workers: Processes; by default one for every core.
    """
    seeing, hearing = _instruments(faces, centre_crop, vad, any_sound)
    cut = _planned(size, frames, frame_rate, clips_per_video, seeing, hearing, least_speech)
    root, folder = Path(source), Path(output)
    agreed = read_consents(consents)
    refuse_inside(root, folder)
    found = {path.name if root.is_file() else path.relative_to(root).as_posix(): path for path in find_videos(root)}
    videos, unnamable = part_unnamable(found)
    names = name_videos(list(videos))
    jobs = []
    for video, path in videos.items():
        speaker = speaker_of(path, root, speaker_from)
        told = told_consent(agreed, (video, path.absolute().parent.name, speaker))
        about = {"speaker": speaker, "consent": told or consent}
        jobs.append(Video(path, video, names[video], folder, about, cut))
    refuse_unmatched(agreed, videos, (job.about["speaker"] for job in jobs), str(consents))
    with opened_ledger(folder, "cut_clips", cut.settings() | {"speaker_from": speaker_from}) as ledger:
        rows = _cut_all(jobs, ledger, n_workers_of(workers))
        kept = [row for row in rows if "reason" not in row]
        rejected = unnamable + [row for row in rows if "reason" in row]
        write_rows(folder / "rejected.jsonl", rejected)
        write_rows(folder / "clips.jsonl", kept)
    print_summary(f"cut_clips: {len(found)} videos, {folder}", "clips", len(kept), rejected)
    _tell_speakers(kept, speaker_from)
    if not kept:
        raise ValueError(f"no video gave a clip; {folder / 'rejected.jsonl'} has the reasons")


def check_needs(
    *,
    size: str,
    frames: int | None,
    frame_rate: float,
    clips_per_video: int | None,
    faces: str | None,
    centre_crop: bool,
    vad: str | None,
    any_sound: bool,
    least_speech: float,
    consents: str | None,
    **_: object,
) -> None:
    """Raise what cut_clips would raise of its settings and weights, before any video is read."""
    seeing, hearing = _instruments(faces, centre_crop, vad, any_sound)
    _planned(size, frames, frame_rate, clips_per_video, seeing, hearing, least_speech)
    read_consents(consents)


def _planned(
    size: str,
    frames: int | None,
    frame_rate: float,
    clips_per_video: int | None,
    seeing: Path | None,
    hearing: Path | None,
    least_speech: float,
) -> Cut:
    """Return how videos are cut, once the settings were checked."""
    if frames is not None and (frames < 9 or frames % 8 != 1):
        raise ValueError(f"frames must be 8k + 1 (9, 17, ..., 73, ..., 121); got {frames}")
    if not 1 <= frame_rate <= 240:
        raise ValueError(f"frame_rate must be 1 to 240 frames per second; got {frame_rate:g}")
    if clips_per_video is not None and clips_per_video < 1:
        raise ValueError(f"clips_per_video must be at least 1; got {clips_per_video}")
    if not 0 <= least_speech <= 1:
        raise ValueError(f"least_speech must be a share from 0 to 1; got {least_speech:g}")
    return Cut(
        parse_size(size),
        frames,
        frame_rate,
        clips_per_video=clips_per_video,
        faces=seeing,
        vad=hearing,
        least_speech=least_speech,
    )


def _instruments(
    faces: str | None, centre_crop: bool, vad: str | None, any_sound: bool
) -> tuple[Path | None, Path | None]:
    """Return where the weights for faces and for speech are; None where they are not to be looked for."""
    seeing = _weights_or_flag("faces", faces, "centre_crop", centre_crop, looked_for="faces")
    hearing = _weights_or_flag("vad", vad, "any_sound", any_sound, looked_for="speech")
    if seeing is not None:
        refuse_missing_mtcnn(seeing)
    if hearing is not None:
        hearing = vad_file(hearing)
        load_vad(hearing)
    return seeing, hearing


def _weights_or_flag(name: str, weights: str | None, flag: str, is_set: bool, *, looked_for: str) -> Path | None:
    """Return the weights of an instrument, or None where the flag does without it; one of the two must be given."""
    if is_set == (weights is not None):
        said = "both" if is_set else "neither"
        raise ValueError(
            f"give --{name} WEIGHTS to look for {looked_for}, or --{flag} to take what is there; got {said}"
        )
    return None if weights is None else Path(weights)


def _tell_speakers(kept: list[Row], speaker_from: SpeakerFrom) -> None:
    """Say whose names the speakers have, and what to do where nobody is named."""
    named = {row["speaker"] for row in kept if row["speaker"]}
    unnamed = sum(not row["speaker"] for row in kept)
    console = Console(soft_wrap=True, highlight=False)
    if named:
        examples = ", ".join(sorted(named)[:3])
        console.print(f"speakers: {len(named)}, named after the {speaker_from}s ({examples}, ...)", markup=False)
    if unnamed:
        why = " (they lie in no folder of the source)" if speaker_from == "folder" else ""
        console.print(f"{unnamed} clips name no speaker{why}; find_speakers tells who talks", markup=False)


def _still_there(rows: list[Row] | None, folder: Path) -> list[Row] | None:
    """Return noted rows when all files that they name are there."""
    files = [folder / row[name] for row in rows or [] for name in ("path", "sound") if name in row]
    return rows if all(file.is_file() for file in files) else None


def _cut_all(jobs: list[Video], ledger: Ledger, n_workers: int) -> list[Row]:
    """Cut what is not cut yet; return the rows of all videos in their order."""
    states = {job.name: f"{job.about} {state_of(job.path)}" for job in jobs}
    found = {job.name: _still_there(ledger.find(job.name, states[job.name]), job.output) for job in jobs}
    left = [job for job in jobs if found[job.name] is None]
    with Progress() as progress:
        task = progress.add_task("cutting", total=len(jobs), completed=len(jobs) - len(left))

        def done(job: Video, rows: list[Row] | Crashed) -> None:
            if isinstance(rows, Crashed):
                detail = "the process that read it died, as for a want of memory"
                rows = [{"source": job.source, "start_s": 0.0, "reason": "crashed", "detail": detail} | job.about]
            found[job.name] = rows
            ledger.note(job.name, states[job.name], rows)
            progress.advance(task)

        run_all(cut_video, left, n_workers, done)
    return [row for job in jobs for row in found[job.name] or []]


if __name__ == "__main__":
    run(cut_clips)
