"""The order of an epoch: every sample once, fair shares, nothing but seed and epoch decides."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.data.order import EpochOrder

orders = st.builds(
    EpochOrder,
    counts=st.lists(st.integers(1, 9), min_size=4, max_size=6).map(lambda counts: (*counts, 12)),
    batch_size=st.integers(1, 4),
    shuffle_buffer=st.sampled_from([0, 3, 100]),
    seed=st.integers(0, 5),
    n_ranks=st.integers(1, 3),
    n_workers=st.integers(1, 3),
    drop_last=st.booleans(),
)


def all_samples(order: EpochOrder) -> set[tuple[int, int]]:
    return {(shard, k) for shard, count in enumerate(order.counts) for k in range(count)}


@given(orders, st.integers(0, 3))
def test_no_sample_comes_twice_and_only_a_remainder_waits(order, epoch):
    seen = [ref for rank in range(order.n_ranks) for batch in order.batches(epoch, rank) for ref in batch]
    assert len(set(seen)) == len(seen)
    left_out = all_samples(order) - set(seen)
    assert len(left_out) < order.n_ranks * (order.batch_size if order.drop_last else 1)


@given(orders, st.integers(0, 3))
def test_every_rank_gets_the_same_number_of_batches_of_the_right_size(order, epoch):
    for rank in range(order.n_ranks):
        batches = order.batches(epoch, rank)
        assert len(batches) == order.n_batches
        assert all(len(batch) == order.batch_size for batch in batches[:-1])
        assert 1 <= len(batches[-1]) <= order.batch_size
        assert not order.drop_last or len(batches[-1]) == order.batch_size


@given(orders, st.integers(0, 3))
def test_a_worker_reads_what_it_gives_out_and_opens_neighbouring_shards(order, epoch):
    for rank, worker in product(range(order.n_ranks), range(order.n_workers)):
        reads = order.reads(epoch, rank, worker)
        given_out = [ref for batch in order.worker_batches(epoch, rank, worker) for ref in batch]
        assert sorted(reads) == sorted(given_out)


def test_no_sample_waits_longer_than_the_buffer():
    order = EpochOrder((50, 50), batch_size=1, shuffle_buffer=8)
    read_at = {ref: k for k, ref in enumerate(order.reads(0, 0, 0))}
    given_out = [batch[0] for batch in order.worker_batches(0, 0, 0)]
    # when sample k is given out, at most k + 8 samples can have been read
    assert all(read_at[ref] <= k + 8 for k, ref in enumerate(given_out))
    assert given_out != order.reads(0, 0, 0)


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list:
        return EpochOrder((7, 7, 7), batch_size=2, seed=seed).batches(epoch, 0)

    assert order(0, 0) == order(0, 0)
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_without_a_buffer_the_shards_are_read_in_their_order():
    order = EpochOrder((2, 3), batch_size=2, shuffle_buffer=0, drop_last=False)
    assert sum(order.batches(5, 0), []) == sorted(all_samples(order))


def test_what_drop_last_leaves_out_changes_from_epoch_to_epoch():
    order = EpochOrder((10,), batch_size=4, shuffle_buffer=100)
    left_out = [all_samples(order) - set(sum(order.batches(epoch, 0), [])) for epoch in range(20)]
    assert len(set().union(*left_out)) > 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"shuffle_buffer": -1}, "shuffle_buffer must be at least 0; got -1"),
        (
            {"batch_size": 9},
            "batch_size 9 on 1 processes needs more than the 8 samples of the shard set; use a",
        ),
    ],
)
def test_settings_that_leave_nothing_to_train_on_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EpochOrder(**{"counts": (4, 4), "batch_size": 2} | values)


@pytest.mark.parametrize("batches_a_step", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("n_ranks", "n_workers"), [(1, 1), (1, 3), (2, 2)])
def test_an_epoch_is_a_whole_number_of_steps_and_leaves_other_samples_out_each_time(batches_a_step, n_ranks, n_workers):
    order = EpochOrder((9, 8, 6), 2, 4, 0, n_ranks, n_workers, batches_a_step=batches_a_step)
    assert order.n_batches == 23 // n_ranks // 2 // batches_a_step * batches_a_step
    left = []
    for epoch in range(3):
        ranks = [order.batches(epoch, rank) for rank in range(n_ranks)]
        assert {len(found) for found in ranks} == {order.n_batches}
        seen = [ref for found in ranks for batch in found for ref in batch]
        assert len(set(seen)) == len(seen) == order.n_batches * n_ranks * 2
        left.append({(shard, at) for shard, count in enumerate((9, 8, 6)) for at in range(count)} - set(seen))
    assert left[0] != left[1]


def test_more_batches_a_step_than_an_epoch_has_are_refused_with_both_numbers():
    for drop_last, n_batches in ((True, 3), (False, 4)):
        settings = {"batch_size": 2, "drop_last": drop_last}
        EpochOrder((7,), **settings, batches_a_step=n_batches)
        message = (
            f"accumulate_grad_batches 9 makes a step of 9 batches, and an epoch has {n_batches} .* to {n_batches} at"
        )
        with pytest.raises(ValueError, match=message):
            EpochOrder((7,), **settings, batches_a_step=9)
