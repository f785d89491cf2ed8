"""A training that is stopped and resumed under Lightning sees what an uninterrupted one sees; one rank and two."""

import json
import multiprocessing
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import PairBatch
from idlora_pl.data.shards import write_shards
from idlora_pl.distributed import close_at_exit
from tests.data.test_faults import spoil
from tests.data.test_voices import facts, sample_of

N_STEPS = 9
Seen = list[list[tuple[str, str]]]


@pytest.fixture
def damaged(tmp_path) -> Path:
    """Twenty-four clips of three speakers, three of which cannot be read."""
    folder = tmp_path / "damaged"
    write_shards((sample_of(k) for k in range(24)), folder, samples_per_shard=5)
    PairedClips(str(folder), references="cross_video", batch_size=2, num_workers=0).prepare_data()
    spoil(folder, facts(2)[0], facts(11)[0], facts(12)[0])
    return folder


class Listener(lightning.LightningModule):
    """Notes target and voice of its training batches, and moves a weight by what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: Seen = []

    def training_step(self, batch: PairBatch, index: int) -> torch.Tensor:
        self.seen.append([(meta["key"], meta["reference_key"]) for meta in batch.meta])
        return self.weight * (batch.target_audio.mean() + batch.reference.mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(
    folder: Path, work: Path, until: int, *, accumulate: int, ckpt: Path | None = None, n_ranks: int = 1, **data: Any
) -> dict:
    """Train to a number of steps and return what was seen, the weight and the faults of this process."""
    warnings.filterwarnings("ignore")
    usual = {"batch_size": 2, "shuffle_buffer": 6, "references": "cross_video", "on_fault": "skip"}
    module, clips = Listener(), PairedClips(str(folder), **usual | data)
    lightning.Trainer(
        accelerator="cpu",
        devices=1,
        num_nodes=n_ranks,
        strategy="auto" if n_ranks == 1 else "ddp",
        logger=False,
        max_steps=until,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(work, filename=f"{until}", every_n_train_steps=until)],
    ).fit(module, datamodule=clips, ckpt_path=ckpt, weights_only=None if ckpt is None else True)
    state = clips.state_dict()
    return {"seen": module.seen, "weight": module.weight.item(), "faults": state["faults"], "epoch": state["epoch"]}


CASES = [(n_workers, stop, accumulate) for n_workers in (0, 1, 4) for stop, accumulate in ((2, 1), (5, 1), (6, 2))]
SLOW = {(4, 2, 1), (4, 5, 1), (1, 2, 1)}


@pytest.mark.parametrize(
    ("n_workers", "stop", "accumulate"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case in SLOW else []) for case in CASES],
)
def test_a_resumed_training_sees_what_was_left(damaged, tmp_path, n_workers, stop, accumulate):
    settings = {"num_workers": n_workers, "accumulate": accumulate}
    whole = fit(damaged, tmp_path / "whole", N_STEPS, **settings)
    before = fit(damaged, tmp_path / "part", stop, **settings)
    after = fit(damaged, tmp_path / "rest", N_STEPS, ckpt=tmp_path / "part" / f"{stop}.ckpt", **settings)
    assert before["seen"] + after["seen"] == whole["seen"]
    assert len(whole["seen"]) == N_STEPS * accumulate
    assert after["weight"] == whole["weight"] != before["weight"]
    assert after["faults"] == whole["faults"]
    assert {key for _, key, _ in whole["faults"][0]["reasons"]} <= {"c02", "c11", "c12"}


def test_no_worker_and_one_worker_give_the_same_batches(damaged, tmp_path):
    runs = [fit(damaged, tmp_path / str(n), N_STEPS, accumulate=1, num_workers=n) for n in (0, 1)]
    assert runs[0] == runs[1]


def rank_of_two(rank: int, port: int, work: str, calls: list[dict]) -> None:
    """One of two processes that train together; writes what it saw."""
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": str(rank)}
    world |= {"LOCAL_RANK": "0", "RANK": str(rank), "PL_TORCH_DISTRIBUTED_BACKEND": "gloo"}
    torch.set_num_threads(1)
    close_at_exit()
    seen = []
    for call in calls:
        os.environ |= world  # Lightning takes it out when a fit ends
        seen.append(fit(**call))
    Path(work, f"rank{rank}.json").write_text(json.dumps(seen))


def on_two_ranks(work: Path, calls: list[dict]) -> list[list[dict]]:
    """Run `fit` with the same arguments in two processes joined by gloo; return what each rank saw in each call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_of_two, args=(rank, port, str(work), calls)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(800)
    assert [process.exitcode for process in ranks] == [0, 0]
    return [json.loads((work / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("n_workers", [0, 1, 4])
def test_two_ranks_resume_as_one_run(damaged, tmp_path, n_workers):
    settings = {"folder": damaged, "num_workers": n_workers, "accumulate": 2, "n_ranks": 2}
    whole = settings | {"work": tmp_path / "whole", "until": 5}
    before = settings | {"work": tmp_path / "part", "until": 2}
    after = settings | {"work": tmp_path / "rest", "until": 5, "ckpt": tmp_path / "part" / "2.ckpt"}
    ranks = on_two_ranks(tmp_path, [whole, before, after])
    for all_seen, first, rest in ranks:
        assert first["seen"] + rest["seen"] == all_seen["seen"]
        assert len(all_seen["seen"]) == 10
        assert rest["weight"] == all_seen["weight"]
        assert rest["faults"] == all_seen["faults"]
    one, other = ranks[0][0], ranks[1][0]
    assert one["faults"] == other["faults"]
    assert one["faults"][0] != one["faults"][1]
    # the first epoch has six batches a rank; nothing but a substitute is seen on both
    parts = [{key for batch in rank["seen"][:6] for key, _ in batch} for rank in (one, other)]
    assert len(parts[0] & parts[1]) <= 3
    assert one["weight"] == other["weight"]
