"""Take the noise out of reference voices; targets keep the sound of their place."""

from pathlib import Path

from data_tools.verb.command import print_summary, run
from data_tools.verb.ledger import opened_ledger, run_noted, state_of
from data_tools.verb.lists import Row, file_of, moved, read_clips, rejection, relative_to, write_rows
from data_tools.verb.parallel import n_workers_of
from data_tools.voices.cleaning import Voice, clean_voice, load_denoiser


def clean_reference(
    clips: str,
    output: str,
    backend: str = "noisereduce",
    clean_above_db: float = 15.0,
    workers: int | None = None,
) -> None:
    """Write a denoised voice for every clip, which pair_clips then gives as the reference; the clips stay as they are.

    Writes OUTPUT/voices/<key>.wav at the rate of the sound, OUTPUT/clips.jsonl (the list with `voice`, `cleaned`,
    level_before_dbfs, level_after_dbfs, and the estimates snr_before_db and snr_after_db), and OUTPUT/rejected.jsonl
    with a reason (unreadable, no_audio, not_finite, too_short, silent, bad_backend, crashed; unsafe_key,
    duplicate_key, missing_file). A run that was interrupted continues.

    Args:
        clips: The clips.jsonl of cut_clips or find_speakers, or a folder of videos or sounds.
        output: The folder to write to; never that of the list.
        backend: noisereduce, or "package.module:Class" with a method denoise(waveform, rate_hz) of your own.
        clean_above_db: Voices whose speech is estimated to be this far above their noise stay as they are.
        workers: Processes; by default one for every core.
    """
    source, folder = Path(clips), Path(output)
    if source.parent.resolve() == folder.resolve() and source.name == "clips.jsonl":
        raise ValueError(f"output {folder} would replace {source}; choose another folder")
    made_by = _checked(backend, clean_above_db)
    rows, rejected = read_clips(source)
    voices = [
        Voice(
            row["key"],
            file_of(row, source, "sound" if row.get("sound") else "path"),
            folder / "voices" / f"{row['key']}.wav",
            backend,
            clean_above_db,
        )
        for row in rows
    ]
    settings = {"backend": made_by, "clean_above_db": clean_above_db}
    with opened_ledger(folder, "clean_reference", settings) as ledger:
        states = {voice.key: f"{voice.path} {state_of(voice.path)}" for voice in voices}
        found = run_noted(clean_voice, voices, states, ledger, n_workers_of(workers), label="cleaning", keep=_is_there)
        listed = folder / "clips.jsonl"
        kept = []
        for row, voice in zip(rows, voices, strict=True):
            measured = found[voice.key]
            if "reason" in measured:
                rejected.append(rejection(row, measured["reason"], measured["detail"]))
                continue
            written = {"voice": relative_to(listed, voice.target)} if measured["cleaned"] else {}
            kept.append(moved(row, source, listed) | written | measured)
        write_rows(folder / "rejected.jsonl", rejected)
        write_rows(listed, kept)
    n_cleaned = sum(row["cleaned"] for row in kept)
    print_summary(f"clean_reference: {n_cleaned} of {len(kept)} cleaned, {folder}", "voices", len(kept), rejected)
    if not kept:
        raise ValueError(f"no clip has a voice; {folder / 'rejected.jsonl'} has the reasons")


def check_needs(*, backend: str, clean_above_db: float, **_: object) -> None:
    """Raise what clean_reference would raise of its settings and its backend, before any clip is read."""
    _checked(backend, clean_above_db)


def _checked(backend: str, clean_above_db: float) -> str:
    """Return what cleans, with its version, once the settings were checked."""
    if not -20 <= clean_above_db <= 100:
        raise ValueError(f"clean_above_db must be -20 to 100 dB; got {clean_above_db:g}")
    return load_denoiser(backend)[1]


def _is_there(voice: Voice, row: Row) -> bool:
    return voice.target.is_file() or not row.get("cleaned")


if __name__ == "__main__":
    run(clean_reference)
