"""BlockPool by hand and by random operations."""

from __future__ import annotations

import random

import pytest

from octavo.engine.blocks import GIVEN_BACK, BlockPool


def test_pages_are_taken_in_order_and_reused_last_in_first_out_when_unknown() -> None:
    pool = BlockPool(3, 1)
    first, second = pool.allocate(), pool.allocate()
    assert (first, second) == (0, 1)
    pool.release(first)
    assert pool.allocate() == first
    assert pool.drain_fresh() == (0, 1, 0)
    assert pool.drain_fresh() == ()


def test_a_published_page_is_found_while_held_and_while_free_and_evicted_last() -> None:
    pool = BlockPool(3, 1)
    page = pool.allocate()
    pool.publish(page, 0, b"d", b"tokens")
    assert pool.lookup(0, b"d", b"tokens") == page
    pool.release(page)
    assert pool.lookup(0, b"d", b"tokens") == page
    assert [pool.allocate(), pool.allocate()] == [1, 2]
    assert pool.lookup(0, b"d", b"tokens") == page
    assert pool.allocate() == page
    assert pool.lookup(0, b"d", b"tokens") is None
    pool.check([[0], [1], [2]])


def test_least_recently_released_is_evicted_first() -> None:
    pool = BlockPool(2, 1)
    pages = [pool.allocate(), pool.allocate()]
    for page in pages:
        pool.publish(page, 0, bytes([page]), b"")
    pool.release(1)
    pool.release(0)
    pool.retain(1)
    pool.release(1)
    assert [pool.allocate(), pool.allocate()] == [0, 1]


def test_equal_digests_with_other_tokens_do_not_match() -> None:
    pool = BlockPool(2, 1)
    page = pool.allocate()
    pool.publish(page, 0, b"same digest", b"mine")
    assert pool.lookup(0, b"same digest", b"other") is None


def test_groups_do_not_see_each_others_pages() -> None:
    pool = BlockPool(2, 2)
    page = pool.allocate()
    pool.publish(page, 0, b"d", b"t")
    assert pool.lookup(1, b"d", b"t") is None


def test_a_second_page_of_the_same_content_stays_unknown() -> None:
    pool = BlockPool(2, 1)
    first, second = pool.allocate(), pool.allocate()
    pool.publish(first, 0, b"d", b"t")
    pool.publish(second, 0, b"d", b"t")
    assert pool.lookup(0, b"d", b"t") == first
    pool.release(second)
    pool.check([[first]])


def test_shared_pages_come_free_with_the_last_holder() -> None:
    pool = BlockPool(1, 1)
    page = pool.allocate()
    pool.retain(page)
    pool.release(page)
    assert pool.num_free == 0
    pool.release(page)
    assert pool.num_free == 1
    with pytest.raises(AssertionError, match="more often than held"):
        pool.release(page)


@pytest.mark.parametrize("tables", [[[0]], [[0, 1, 1]], [[0, 1], [1]], [[1]]])
def test_check_finds_lost_and_doubly_owned_pages(tables: list[list[int]]) -> None:
    pool = BlockPool(3, 1)
    pool.allocate()
    pool.allocate()
    pool.check([[0], [GIVEN_BACK, 1]])
    with pytest.raises(AssertionError):
        pool.check(tables)


def test_random_operations_keep_the_accounts() -> None:
    rng = random.Random(5)
    pool = BlockPool(7, 2)
    tables: list[list[int]] = []
    for step in range(3000):
        action = rng.random()
        if action < 0.5 and pool.num_free:
            tables.append([pool.allocate()])
            if rng.random() < 0.7:
                digest = bytes([rng.randrange(12)])
                pool.publish(tables[-1][0], rng.randrange(2), digest, digest)
        elif action < 0.7:
            digest = bytes([rng.randrange(12)])
            found = pool.lookup(rng.randrange(2), digest, digest)
            if found is not None:
                pool.retain(found)
                tables.append([found])
        elif tables:
            for page in tables.pop(rng.randrange(len(tables))):
                pool.release(page)
        if step % 1000 == 999:
            pool.forget_all()
        pool.check(tables)
