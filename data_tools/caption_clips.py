"""Write the prompt and the scoring texts of every clip."""

import json
import os
from hashlib import sha256
from pathlib import Path

from data_tools.captions.captioning import Describer, Job, Sources, caption_clip
from data_tools.captions.files import read_texts
from data_tools.captions.models import NO_KEY, QUESTION, Endpoint, LocalModel, load_model
from data_tools.captions.words import load_transcriber, refuse_missing_transcriber
from data_tools.verb.command import print_summary, run
from data_tools.verb.ledger import Ledger, opened_ledger, run_noted, state_of
from data_tools.verb.lists import Row, file_of, moved, read_clips, rejection, write_rows
from data_tools.verb.parallel import n_workers_of
from idlora_pl.scorers.loading import device_here
from idlora_pl.scorers.weights import WEIGHTS

PASSING = ("no_answer", "crashed")
"""Reasons that the next run tries again; others are kept."""
MANY_UNANSWERED = 5
"""Clips in a row without an answer after which the server is taken to be gone."""


def caption_clips(
    clips: str,
    output: str,
    texts: str | None = None,
    words: str | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    key_variable: str | None = None,
    with_sound: bool = False,
    pictures: int = 4,
    language: str = "en",
    timeout_s: float = 60.0,
    retries: int = 4,
    weights: str = str(WEIGHTS),
    device: str = "cpu",
    workers: int | None = None,
) -> None:
    """Write `[VISUAL] / [SPEECH] / [SOUNDS]` prompts, and the texts that scorers expect, into a list of clips.

    What files say is taken as it is; what is said comes from a recogniser where no file has it; the rest from a model
    that looks. Writes OUTPUT/clips.jsonl (the list with prompt, visual, speech, sounds, speaking_style,
    environment_sounds, caption_from) and OUTPUT/rejected.jsonl with a reason (no_words, no_section, bad_section,
    bad_answer, refused, cut_off, no_answer, no_frames, no_audio, silent, too_short, not_finite, unreadable, crashed;
    unsafe_key, duplicate_key, missing_file). A run that was interrupted continues, and asks again where there was no
    answer.

    Args:
        clips: The clips.jsonl of the tool before, or a folder of videos.
        output: The folder to write to; never that of the list.
        texts: Texts that you have: a .json file {"<clip key or source>": "<prompt>" or {"visual": ..., ...}}, a
            .jsonl file with key or source in each row, or a folder of <key>.json, .txt, .srt or .vtt.
        words: Who writes down what is said: wer (Whisper large-v3), wer_grammar, nano_phonemes, or the folder of a
            speech model of transformers.
        endpoint: Base URL of a server that speaks OpenAI's protocol, such as http://localhost:8000/v1.
        model: The server's name of the model; without --endpoint the folder of an image-text model of transformers.
        key_variable: Environment variable that holds the server's key, such as OPENAI_API_KEY.
        with_sound: Send the sound to the server too; without it [SOUNDS] is what the pictures suggest.
        pictures: How many frames the model is shown.
        language: ISO 639-1 code of what is spoken, for the recogniser.
        timeout_s: Seconds that one answer of the server may take.
        retries: How often the server is asked again.
        weights: Folder of the weights of wer and wer_grammar.
        device: Of models on this machine.
        workers: Processes; by default one for every core, and one with a model on this machine.
    """
    source, folder = Path(clips), Path(output)
    if source.parent.resolve() == folder.resolve() and source.name == "clips.jsonl":
        raise ValueError(f"output {folder} would replace {source}; choose another folder")
    _check_settings(texts, words, endpoint, model, device, with_sound, pictures, timeout_s, retries)
    server = Endpoint(endpoint, str(model), _key(key_variable), timeout_s, retries) if endpoint is not None else None
    describer = server if server is not None else _local(model, device)
    sources = Sources(describer, model or "", words, Path(weights).expanduser(), language, pictures, with_sound, device)
    if words is not None:
        load_transcriber(words, sources.weights, device)
    rows, rejected = read_clips(source)
    given = read_texts(Path(texts), rows) if texts is not None else {}
    jobs = [Job(row["key"], file_of(row, source), given.get(row["key"], {}), sources) for row in rows]
    settings = {
        **{"endpoint": endpoint, "model": model, "words": words, "language": language, "pictures": pictures},
        **{"with_sound": with_sound, "question": sha256(QUESTION.encode()).hexdigest()[:16]},
    }
    has_network = words is not None or (describer is not None and server is None)
    with opened_ledger(folder, "caption_clips", settings) as ledger:
        found = _caption_all(jobs, ledger, 1 if has_network and workers is None else n_workers_of(workers))
        kept, failed = _parted(rows, found, source, folder / "clips.jsonl")
        write_rows(folder / "rejected.jsonl", rejected + failed)
        write_rows(folder / "clips.jsonl", kept)
    print_summary(f"caption_clips: {folder}", "captions", len(kept), rejected + failed)
    if not kept:
        raise ValueError(f"no clip has a caption; {folder / 'rejected.jsonl'} has the reasons")


def check_needs(
    *,
    texts: str | None,
    words: str | None,
    endpoint: str | None,
    model: str | None,
    device: str,
    key_variable: str | None,
    with_sound: bool,
    pictures: int,
    timeout_s: float,
    retries: int,
    weights: str,
    **_: object,
) -> None:
    """Raise what caption_clips would raise of its settings, texts and models; nothing is loaded."""
    _check_settings(texts, words, endpoint, model, device, with_sound, pictures, timeout_s, retries)
    _key(key_variable)
    if words is not None:
        refuse_missing_transcriber(words, Path(weights).expanduser())
    if model is not None and endpoint is None and not (Path(model) / "config.json").is_file():
        raise ValueError(f"--model {model} has no config.json; give the folder of an image-text model")
    if texts is not None:
        read_texts(Path(texts), [])


def _check_settings(
    texts: str | None,
    words: str | None,
    endpoint: str | None,
    model: str | None,
    device: str,
    with_sound: bool,
    pictures: int,
    timeout_s: float,
    retries: int,
) -> None:
    """Refuse settings that contradict each other."""
    if pictures < 1 or timeout_s <= 0 or retries < 0:
        raise ValueError(f"pictures, timeout_s and retries must be positive; got {pictures}, {timeout_s:g}, {retries}")
    if with_sound and endpoint is None:
        raise ValueError("--with_sound needs --endpoint; models on this machine are shown pictures alone")
    if endpoint is not None and model is None:
        raise ValueError(f"--endpoint {endpoint} needs --model, the name of a model there")
    if texts is None and words is None and model is None:
        raise ValueError("nothing says what is in the clips; give --texts, --words, --endpoint or --model")
    if words is not None or (model is not None and endpoint is None):
        device_here(device)


def _key(variable: str | None) -> str:
    """Return the key of a server from the environment."""
    if variable is None:
        return NO_KEY
    if not (key := os.environ.get(variable, "")):
        raise ValueError(f"--key_variable {variable} names no environment variable that is set; export it")
    return key


def _local(model: str | None, device: str) -> Describer | None:
    """Return the model on this machine; None when none is asked for."""
    if model is None:
        return None
    load_model(Path(model), device)
    return LocalModel(Path(model), device)


def _caption_all(jobs: list[Job], ledger: Ledger, n_workers: int) -> dict[str, Row]:
    """Caption what is not captioned yet; return the row of each clip by key."""
    states = {job.key: f"{job.path} {state_of(job.path)} {json.dumps(job.given, sort_keys=True)}" for job in jobs}
    unanswered = 0

    def watch(row: Row) -> None:
        nonlocal unanswered
        unanswered = unanswered + 1 if row.get("reason") == "no_answer" else 0
        if unanswered == MANY_UNANSWERED:
            raise ValueError(
                f"{unanswered} clips in a row got no answer, the last: {row['detail']}; what is done is kept, run the "
                "command again when the server answers"
            )

    def keep(_job: Job, row: Row) -> bool:
        return row.get("reason") not in PASSING

    return run_noted(caption_clip, jobs, states, ledger, n_workers, label="captioning", keep=keep, watch=watch)


def _parted(rows: list[Row], found: dict[str, Row], source: Path, listed: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows of clips with a caption, and rejected ones."""
    kept, failed = [], []
    for row in rows:
        caption = found[row["key"]]
        if "reason" in caption:
            failed.append(rejection(row, caption["reason"], caption["detail"]))
        else:
            kept.append(moved(row, source, listed) | caption)
    return kept, failed


if __name__ == "__main__":
    run(caption_clips)
