"""Pack encoded samples into the shard set that training reads."""

import hashlib
import json
import random
from dataclasses import asdict, replace
from pathlib import Path

from rich.progress import Progress

from data_tools.pairing.consents import UNKNOWN, Consent, in_index, refuse_unknown, speakers_of
from data_tools.shards.sample_folder import (
    ShardJob,
    files_of,
    find_samples,
    head_of,
    parse_bytes,
    read_meta,
    read_sample,
    read_settings,
    spread,
    tar_bytes,
    write_job,
)
from data_tools.verb.command import print_summary, run
from data_tools.verb.ledger import Ledger, opened_ledger, state_of
from data_tools.verb.lists import Row, read_rows, write_rows
from data_tools.verb.parallel import Crashed, n_workers_of, run_all
from idlora_pl.data.samples import ShardError
from idlora_pl.data.shards import INDEX_NAME, ShardFile, ShardIndex, sha256_of
from idlora_pl.files import replacing


def write_shards(
    samples: str,
    output: str,
    shard_size: str = "1GB",
    samples_per_shard: int | None = None,
    seed: int = 0,
    split: str | None = None,
    consent: Consent | None = None,
    allow_unknown_consent: bool = False,
    workers: int | None = 1,
) -> None:
    """Pack encoded samples into tar files with an index.

    Writes OUTPUT/pairs-000000.tar, ..., index.json (counts, sizes and SHA-256 of the tars, shapes, settings, consent
    of every speaker) and rejected.jsonl, the list of what encode_clips left out. All samples must have the same
    shapes; the first one that differs ends the run. The same samples and options give the same bytes; a run that was
    interrupted continues, and index.json is written last.

    Args:
        samples: The folder that encode_clips wrote.
        output: A new folder, or that of an interrupted run.
        shard_size: Most bytes of one tar file, such as 500MB or 1GB.
        samples_per_shard: Most samples of one tar file; by default as many as its size allows.
        seed: Samples are put into an order drawn with this seed, so that neighbours are not one speaker's.
        split: Pack only samples of this split, such as train; pair_clips --split deals them out.
        consent: How people agreed of whom the samples say nothing, or unknown.
        allow_unknown_consent: Pack samples of people of whom nobody knows whether they agreed; the index and every
            adapter that is trained on it repeat that.
        workers: Processes that write; null takes one for every core.
    """
    check_needs(shard_size=shard_size, samples_per_shard=samples_per_shard, workers=workers)
    most_bytes, n_workers = parse_bytes(shard_size), n_workers_of(workers)
    source, folder = Path(samples), Path(output)
    metas = {key: read_meta(source, key) for key in find_samples(source)}
    keys = [key for key, row in metas.items() if split is None or row.get("split") == split]
    if not keys:
        known = ", ".join(sorted({str(row.get("split")) for row in metas.values()}))
        raise ValueError(f"{source} has no sample of split '{split}', only of {known}; correct --split")
    said = {key: str(metas[key].get("consent") or UNKNOWN) for key in keys}
    speakers = [metas[key] | {"consent": consent or UNKNOWN if said[key] == UNKNOWN else said[key]} for key in keys]
    refuse_unknown(speakers_of(speakers), str(source), allowed=allow_unknown_consent)
    random.Random(seed).shuffle(keys)
    about = read_settings(source)
    about |= {"consent": in_index(speakers), "consent_of_speakers": speakers_of(speakers)}
    about |= {"split": split} if split is not None else {}
    about |= {"allow_unknown_consent": True} if UNKNOWN in about["consent_of_speakers"].values() else {}
    head = head_of(read_sample(source, keys[0]), str(about.get("base", "")), about)
    parts = spread([tar_bytes(source, key) for key in keys], most_bytes, samples_per_shard)
    jobs = [_job(number, keys[part.start : part.stop], source, folder, head) for number, part in enumerate(parts)]
    settings = {"shard_size": shard_size, "samples_per_shard": samples_per_shard, "seed": seed, "split": split}
    _refuse_foreign(folder)
    with opened_ledger(folder, "write_shards", settings) as ledger:
        index = _write_all(jobs, ledger, n_workers)
        rejected = source / "rejected.jsonl"
        left_out = read_rows(rejected, ()) if rejected.is_file() and rejected.stat().st_size else []
        write_rows(folder / "rejected.jsonl", left_out)
        with replacing(folder / INDEX_NAME) as partial:
            partial.write_text(index.to_json())
    print_summary(f"write_shards: {len(jobs)} shards, {folder}", "samples", index.n_samples, left_out)


def check_needs(*, shard_size: str, samples_per_shard: int | None, workers: int | None, **_: object) -> None:
    """Raise what write_shards would raise of its settings."""
    parse_bytes(shard_size)
    n_workers_of(workers)
    if samples_per_shard is not None and samples_per_shard < 1:
        raise ValueError(f"samples_per_shard must be at least 1; got {samples_per_shard}")


def _job(number: int, keys: list[str], source: Path, folder: Path, head: ShardIndex) -> ShardJob:
    """Return one shard's job with a checksum of all that its bytes depend on."""
    inputs = [(path.name, state_of(path)) for key in keys for path in files_of(source, key)]
    known = json.dumps([inputs, head.shapes, head.dtypes])
    name = f"pairs-{number:06d}.tar"
    return ShardJob(name, tuple(keys), source, folder, head, hashlib.sha256(known.encode()).hexdigest())


def _refuse_foreign(folder: Path) -> None:
    """Raise ShardError when a folder holds something that write_shards did not begin."""
    if folder.exists() and not (folder / ".write_shards").is_dir() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShardError(f"{folder} already holds something; remove it or choose another folder")


def _write_all(jobs: list[ShardJob], ledger: Ledger, n_workers: int) -> ShardIndex:
    """Write the shards that are not there yet; return the index of all."""
    folder = jobs[0].output
    found: dict[str, ShardFile] = {}
    for job in jobs:
        for row in ledger.find(job.name, job.state) or []:
            path = folder / job.name
            if path.is_file() and path.stat().st_size == row["n_bytes"] and sha256_of(path) == row["sha256"]:
                found[job.name] = ShardFile(**row | {"keys": tuple(row["keys"])})
    left = [job for job in jobs if job.name not in found]
    surplus = [path for path in folder.glob("pairs-*.tar") if path.name not in {job.name for job in jobs}]
    if left or surplus:
        (folder / INDEX_NAME).unlink(missing_ok=True)
    for path in surplus:
        path.unlink()
    with Progress() as progress:
        task = progress.add_task("writing shards", total=len(jobs), completed=len(found))

        def done(job: ShardJob, written: ShardFile | Crashed) -> None:
            if isinstance(written, Crashed):
                raise ShardError(f"the process that wrote {job.name} died; run the command again with fewer --workers")
            found[job.name] = written
            row: Row = asdict(written)
            ledger.note(job.name, job.state, [row])
            progress.advance(task)

        run_all(write_job, left, n_workers, done)
    return replace(jobs[0].head, shards=tuple(found[job.name] for job in jobs))


if __name__ == "__main__":
    run(write_shards)
