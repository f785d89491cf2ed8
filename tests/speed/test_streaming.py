"""Reading shards is as fast as the benchmark in docs/streaming.md says."""

import time

import pytest
import torch

from experiments.bench_streaming import full_size, median, read_samples, read_tars
from idlora_pl.data.shards import write_shards
from idlora_pl.data.stream import open_shards


@pytest.mark.speed
def test_a_worker_reads_at_four_fifths_of_the_speed_of_tarfile(tmp_path):
    torch.set_num_threads(1)
    write_shards(full_size(32), tmp_path / "full", samples_per_shard=16)
    found = open_shards(str(tmp_path / "full"))
    shares = []
    for _ in range(21):
        begin = time.process_time()
        read_tars(found)
        middle = time.process_time()
        read_samples(found)
        shares.append((middle - begin) / (time.process_time() - middle))
    assert median(shares[1:])[0] >= 0.8
