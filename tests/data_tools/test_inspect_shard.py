"""inspect_shard shows a set and finds what is wrong with it."""

from dataclasses import replace

import pytest
import torch

from data_tools.inspect_shard import inspect_shard
from idlora_pl.data.samples import PairSample, ShardError
from idlora_pl.data.shards import write_shards
from idlora_pl.method.tokens import TextFeatures


def sample(key: str, speaker: str) -> PairSample:
    text = TextFeatures(torch.ones(3, 4), torch.ones(3, 4), torch.ones(3, dtype=torch.bool))
    latents = torch.zeros(2, 1, 1, 1), torch.zeros(1, 2, 3), torch.zeros(1, 5, 3)
    return PairSample(*latents, text, {"key": key, "speaker": speaker, "prompt": f"{speaker} talks"})


@pytest.fixture
def shards(tmp_path):
    samples = [sample(f"k{k}", "ann" if k < 4 else "bob") for k in range(6)]
    write_shards(samples, tmp_path / "shards", samples_per_shard=4, codecs="smoke", settings={"duration_s": 0.08})
    return tmp_path / "shards"


def test_shapes_speakers_and_prompts_are_shown(shards, capsys):
    inspect_shard(str(shards), examples=1)
    shown = capsys.readouterr().out
    for text in ("6 samples", "1 x 5 x 3", "float32", "2 tars", "smoke", "0.08", "2 speakers", "ann talks"):
        assert text in shown
    assert "bob talks" not in shown


def test_a_changed_byte_is_found(shards):
    path = shards / "pairs-000001.tar"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"pairs-000001.tar has another sha256 than index.json says; copy it"):
        inspect_shard(str(shards), verify=True)


def test_a_sample_that_is_not_finite_is_found(tmp_path):
    broken = replace(sample("k", "ann"), reference=torch.full((1, 5, 3), torch.nan))
    write_shards([broken], tmp_path / "shards")
    with pytest.raises(ShardError, match=r"clip k has reference that is not finite; encode it again"):
        inspect_shard(str(tmp_path / "shards"), verify=True)
