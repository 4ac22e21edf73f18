"""Who computes when."""

import asyncio
import threading
import time

import pytest
import torch
from torch import nn

import xaicompare as xc
from xaicompare.explore.desk import BusyError, Desk, Job, LeftError, stopping


def run(work: object) -> object:
    async def all_of_it() -> object:
        desk = Desk()
        try:
            return await work(desk)
        finally:
            desk.close()

    return asyncio.run(all_of_it())


def test_one_at_a_time_and_quick_questions_first() -> None:
    done: list[str] = []
    at_once: list[int] = []

    async def work(desk: Desk) -> None:
        inside = 0

        def step(name: str) -> str:
            nonlocal inside
            inside += 1
            at_once.append(inside)
            time.sleep(0.02)
            done.append(name)
            inside -= 1
            return name

        first = asyncio.create_task(desk.done(lambda: step("first")))
        await asyncio.sleep(0.005)
        rest = [asyncio.create_task(desk.done(lambda i=i: step(f"slow {i}"))) for i in range(3)]
        await asyncio.sleep(0)
        rest.append(asyncio.create_task(desk.done(lambda: step("quick"), quick=True)))
        assert await first == "first"
        await asyncio.gather(*rest)

    run(work)
    assert done == ["first", "quick", "slow 0", "slow 1", "slow 2"]
    assert set(at_once) == {1}


def test_an_error_passes_the_turn_on_and_is_told() -> None:
    async def work(desk: Desk) -> int:
        with pytest.raises(ZeroDivisionError):
            await desk.done(lambda: 1 // 0)
        return await desk.done(lambda: 7)

    assert run(work) == 7


def test_who_leaves_while_waiting_takes_no_turn() -> None:
    done: list[str] = []

    async def work(desk: Desk) -> None:
        hold = threading.Event()
        first = asyncio.create_task(desk.done(hold.wait))
        await asyncio.sleep(0.01)
        leaves = asyncio.create_task(desk.done(lambda: done.append("left")))
        stays = asyncio.create_task(desk.done(lambda: done.append("stayed")))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(first, stays)

    run(work)
    assert done == ["stayed"]


def test_too_many_are_turned_away() -> None:
    async def work(desk: Desk) -> None:
        hold = threading.Event()
        tasks = [asyncio.create_task(desk.done(hold.wait)) for _ in range(201)]
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await desk.done(lambda: None)
        hold.set()
        await asyncio.gather(*tasks)

    run(work)


def test_a_new_job_of_a_person_ends_the_one_before() -> None:
    async def work(desk: Desk) -> None:
        with desk.job("ann") as first, desk.job("bob") as other:
            with desk.job("ann") as second:
                assert first.gone.is_set()
                assert not second.gone.is_set()
            assert not other.gone.is_set()
        assert desk._jobs == {}

    run(work)


def test_a_long_method_stops_and_gives_the_model_back() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    inputs, job = torch.rand(1, 1, 4, 4), Job()
    plain = xc.attribute(model, inputs, "kernelshap", n_samples=300).values
    with stopping((model,), job):
        watched = xc.attribute(model, inputs, "kernelshap", n_samples=300).values
    assert torch.equal(plain, watched)
    threading.Timer(0.2, job.over).start()
    begun = time.monotonic()
    with pytest.raises(LeftError), stopping((model,), job):
        xc.attribute(model, inputs, "kernelshap", n_samples=2_000_000, batch_size=64)
    assert time.monotonic() - begun < 5
    assert not model._forward_pre_hooks
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(xc.attribute(model, inputs, "kernelshap", n_samples=300).values, plain)
