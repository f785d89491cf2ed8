"""A folder of encoded samples, two files each, and the settings that made them."""

import json
from pathlib import Path
from typing import Any

from idlora_pl.data.samples import META_FILE, TENSORS_FILE, PairSample, decode_sample, encode_sample
from idlora_pl.files import replacing

SETTINGS_NAME = "settings.json"


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that made a folder of samples; {} when it has none."""
    path = folder / SETTINGS_NAME
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a folder of samples, or compare them with those of an earlier run.

    Raises:
        ValueError: when the folder was made with other settings.
    """
    earlier = read_settings(folder)
    if earlier:
        changed = [name for name in settings if earlier.get(name) != settings[name]]
        if changed:
            raise ValueError(
                f"{folder} was encoded with {changed[0]} {earlier.get(changed[0])}, now it is "
                f"{settings[changed[0]]}; choose a new folder or the same settings"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS_NAME).write_text(json.dumps(settings, indent=1) + "\n")


def write_sample(sample: PairSample, folder: Path) -> None:
    """Write the two files of a pair; the second one, meta.json, says that both are complete."""
    files = encode_sample(sample)
    for suffix in (TENSORS_FILE, META_FILE):
        with replacing(folder / f"{sample.key}.{suffix}") as partial:
            partial.write_bytes(files[suffix])


def sample_exists(folder: Path, key: str) -> bool:
    """Say whether a sample is complete."""
    return (folder / f"{key}.{META_FILE}").exists()


def find_samples(folder: Path) -> list[str]:
    """Return the keys of the complete samples of a folder, sorted.

    Raises:
        ValueError: when the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the one that data_tools.encode_clips wrote")
    keys = sorted(path.name.removesuffix(f".{META_FILE}") for path in folder.glob(f"*.{META_FILE}"))
    if not keys:
        raise ValueError(f"{folder} holds no sample (*.{META_FILE}); run data_tools.encode_clips first")
    return keys


def read_sample(folder: Path, key: str) -> PairSample:
    """Read one sample."""
    files = {suffix: (folder / f"{key}.{suffix}").read_bytes() for suffix in (TENSORS_FILE, META_FILE)}
    return decode_sample(files, f"{folder}: clip {key}")
