"""Items are worked on by several processes, and one that kills its process takes no other with it."""

import os

import pytest

from data_tools.verb.parallel import Crashed, n_workers_of, run_all


def halved(number: int) -> float:
    if number == 13:
        os._exit(7)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number / 2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_every_item_gives_its_result(n_workers):
    found = {}
    run_all(halved, range(6), n_workers, found.__setitem__)
    assert found == {number: number / 2 for number in range(6)}


def test_an_item_that_kills_its_process_is_found_and_the_others_are_done():
    found = {}
    run_all(halved, [1, 13, 2, 3, 4], 2, found.__setitem__)
    assert isinstance(found.pop(13), Crashed)
    assert found == {1: 0.5, 2: 1.0, 3: 1.5, 4: 2.0}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_of_the_function_ends_the_run(n_workers):
    with pytest.raises(ValueError, match="-1 is negative"):
        run_all(halved, [1, -1, 2], n_workers, lambda *_: None)


def test_fewer_than_one_process_is_refused():
    assert n_workers_of(3) == 3
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        n_workers_of(0)
