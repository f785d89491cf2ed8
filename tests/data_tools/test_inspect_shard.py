"""inspect_shard shows a set and finds what is wrong with it."""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_tools.inspect_shard import inspect_shard
from data_tools.shards.check import check_shard, draw, read_index
from data_tools.verb.command import run
from idlora_pl.data.samples import PairSample, ShardError, encode_sample
from idlora_pl.data.shards import write_shards
from idlora_pl.generation.base_model import load_codecs
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
    with pytest.raises(ShardError, match=r"1 faults in .*, first pairs-000001.tar as a whole: sha256 \(another one"):
        inspect_shard(str(shards), verify=True)


def test_a_sample_that_is_not_finite_is_found(tmp_path):
    broken = replace(sample("k", "ann"), reference=torch.full((1, 5, 3), torch.nan))
    write_shards([broken], tmp_path / "shards")
    with pytest.raises(ShardError, match=r"k.latents.safetensors: not_finite \(reference; encode it again\)"):
        inspect_shard(str(tmp_path / "shards"), verify=True)


def faults_of(folder: Path) -> dict[str, set[str]]:
    """What is wrong, by reason."""
    index, taken = read_index(folder), {}
    found: dict[str, set[str]] = {}
    for shard in index.shards:
        for fault in check_shard(folder, shard, index, taken):
            found.setdefault(fault.reason, set()).add(fault.member)
    return found


def repacked(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Write a tar anew with more members at its end."""
    with tarfile.open(path) as tar:
        kept = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, content in [*kept, *members]:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_hostile_members_are_named_and_nothing_is_written(shards, tmp_path, tree):
    link = tarfile.TarInfo("k9.meta.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    names = ("/tmp/absolute.meta.json", "../up.meta.json", "k0.meta.json", "new.meta.json", "code.pkl")
    repacked(shards / "pairs-000000.tar", [*((tarfile.TarInfo(name), b"{}") for name in names), (link, b"")])
    before = tree(tmp_path)
    found = faults_of(shards)
    assert found.pop("size") | found.pop("sha256", set()) == {""}
    assert found == {
        "unsafe_name": {"/tmp/absolute.meta.json", "../up.meta.json"},
        "duplicate": {"k0.meta.json"},
        "not_listed": {"new.meta.json"},
        "unknown_member": {"code.pkl"},
        "not_a_file": {"k9.meta.json"},
    }
    assert tree(tmp_path) == before


def test_every_bad_member_has_a_reason(shards):
    samples = [sample("k0", "ann"), replace(sample("k1", "ann"), reference=torch.zeros(1, 4, 3)), sample("k2", "ann")]
    files = [(f"{one.key}.{name}", content) for one in samples for name, content in encode_sample(one).items()]
    wrong = dict(files) | {"k0.meta.json": b"[]", "k2.latents.safetensors": b"cut"}
    with tarfile.open(shards / "pairs-000000.tar", "w") as tar:
        for name, content in wrong.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found = faults_of(shards)
    assert found["schema"] == {"k0", "k1", "k2"}
    assert found["missing"] == {"k3"}


def test_a_truncated_and_a_missing_shard_are_named_and_a_foreign_one_is_refused(shards):
    path = shards / "pairs-000000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    (shards / "pairs-000001.tar").unlink()
    index, taken = read_index(shards), {}
    found = [fault for shard in index.shards for fault in check_shard(shards, shard, index, taken)]
    reasons = {(fault.shard, fault.reason) for fault in found}
    assert {("pairs-000000.tar", "size"), ("pairs-000001.tar", "missing")} <= reasons
    listed = json.loads((shards / "index.json").read_text())
    listed["shards"].append(listed["shards"][0] | {"name": "../secret.tar"})
    (shards / "index.json").write_text(json.dumps(listed))
    with pytest.raises(SystemExit, match=r"index.json lists the shard '../secret.tar', which is no plain file name"):
        run(inspect_shard, [str(shards), "--verify"])


def test_verify_ends_the_command_with_status_1(shards):
    (shards / "pairs-000001.tar").write_bytes(b"no tar")
    with pytest.raises(SystemExit, match=r"inspect_shard: \d+ faults in"):
        run(inspect_shard, [str(shards), "--verify"])


def test_frames_are_drawn_where_the_codecs_are_there_and_latents_where_not(tmp_path):
    draw(sample("k", "ann"), tmp_path / "latents.png")
    codecs = load_codecs("smoke")
    video = torch.randn(128, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    sound = torch.randn(8, 18, 16, generator=torch.Generator().manual_seed(1))
    draw(
        replace(sample("k", "ann"), target_video=video, target_audio=sound, reference=sound), tmp_path / "f.png", codecs
    )
    for name in ("latents.png", "f.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "latents.png").stat().st_size != (tmp_path / "f.png").stat().st_size
