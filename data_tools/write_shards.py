"""Pack encoded samples into the shard set that training reads."""

import random
from pathlib import Path

from rich.console import Console
from rich.progress import track

from data_tools.command import run
from data_tools.sample_folder import find_samples, read_sample, read_settings
from idlora_pl.data.shards import write_shards as write_shard_set


def write_shards(
    samples: str, output: str, samples_per_shard: int = 256, seed: int = 0, consent: str = "unknown"
) -> None:
    """Pack encoded samples into tar files with an index.

    All samples must have the same shapes; the first one that differs ends the run. The same samples and seed
    give the same bytes.

    Args:
        samples: The folder that encode_clips wrote.
        output: A new folder: pairs-000000.tar, ... and index.json.
        samples_per_shard: How many samples one tar file holds.
        seed: Samples are put into an order drawn with this seed, so that neighbours are not one speaker's.
        consent: How the people in the clips agreed to their use; adapters trained on the set repeat it.
    """
    source = Path(samples)
    keys = find_samples(source)
    random.Random(seed).shuffle(keys)
    settings = read_settings(source)
    index = write_shard_set(
        (read_sample(source, key) for key in track(keys, description="writing shards")),
        output,
        samples_per_shard=samples_per_shard,
        codecs=settings.get("base", ""),
        settings=settings | {"consent": consent},
    )
    Console().print(f"{index.n_samples} samples in {len(index.shards)} shards in {output}")


if __name__ == "__main__":
    run(write_shards)
