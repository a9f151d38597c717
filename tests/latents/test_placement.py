"""The number of encoding processes, and their devices."""

import pytest
import torch
from pydantic import ValidationError

import tiny
from mobius_pipeline.latents import placement
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.encoder import torch_threads
from mobius_pipeline.runtime.errors import MobiusError


def config(**settings: object) -> EncodeConfig:
    """Settings for devices that this machine need not have."""
    return tiny.encode_config().model_copy(update=settings)


@pytest.mark.parametrize(
    ("settings", "devices"),
    [
        ({"processes": "auto"}, ["cpu"]),
        ({"processes": 2}, ["cpu", "cpu"]),
        ({"device": "cuda"}, ["cuda"]),
        ({"device": "cuda:1", "processes": 2}, ["cuda:1", "cuda:1"]),
        ({"device": "cuda", "gpus": "auto"}, ["cuda:0", "cuda:1", "cuda:2"]),
        ({"device": "cuda", "gpus": 2}, ["cuda:0", "cuda:1"]),
        ({"device": "cuda", "gpus": [2, 0]}, ["cuda:2", "cuda:0"]),
        ({"device": "cuda", "gpus": [2, 0], "processes": 3}, ["cuda:2", "cuda:0", "cuda:2"]),
    ],
)
def test_the_devices_of_processes_on_a_machine_with_three_gpus(
    settings: dict[str, object], devices: list[str]
) -> None:
    assert placement.devices_of(config(**settings), lambda: 3) == devices


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"gpus": 2},
            r"encode\.gpus is 2, and this machine has 1 GPUs .*there is no 1\)\. Set encode\.gpus: auto",
        ),
        ({"gpus": [0, 3]}, r"encode\.gpus is \[0, 3\], and this machine has 1 GPUs .*no 3\)"),
    ],
)
def test_gpus_that_are_not_there_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(MobiusError, match=error):
        placement.devices_of(config(device="cuda", **settings), lambda: 1)


def test_gpus_that_would_be_idle_are_refused() -> None:
    with pytest.raises(MobiusError, match=r"encode\.processes is 1, which leaves some of 2 GPUs without"):
        placement.devices_of(config(device="cuda", gpus=2, processes=1), lambda: 2)


CLUSTER = {"CPU": 6.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("settings", "actors"),
    [
        ({}, (1, 0)),
        ({"processes": 6}, (6, 0)),
        ({"device": "cuda", "gpus": "auto"}, (4, 1)),
        ({"device": "cuda", "gpus": 2, "processes": 4}, (4, 0.5)),
    ],
)
def test_the_actors_of_a_cluster(settings: dict[str, object], actors: tuple[int, float]) -> None:
    assert placement.actors_of(config(**{"processes": "auto", **settings}), CLUSTER) == actors


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"gpus": 5}, r"encode\.gpus is 5, and the Ray cluster has 4 GPUs"),
        ({"gpus": [0]}, r"encode\.gpus is \[0\], but a Ray cluster chooses the GPUs itself"),
        ({"gpus": 2, "processes": 1}, "leaves some of 2 GPUs without a process"),
        ({"gpus": 0, "processes": 7}, "7 encoding actors need a CPU each, and the Ray cluster has 6 CPUs"),
    ],
)
def test_actors_that_a_cluster_cannot_place_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(MobiusError, match=error):
        placement.actors_of(config(**{"device": "cuda", "processes": "auto", **settings}), CLUSTER)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"gpus": 2}, "encode.gpus is 2, which needs device: cuda, not cpu"),
        ({"gpus": "auto"}, "encode.gpus is auto, which needs device: cuda"),
        ({"gpus": [0, 0]}, "a list of distinct GPUs such as [0, 2]"),
        ({"gpus": -1}, "gpus\n  Value error, must be a number of GPUs"),
        ({"gpus": []}, "1 validation error"),
        ({"gpus": "all"}, "gpus"),
        ({"processes": 0}, "processes\n  Value error, must be a number of at least 1, or auto"),
        ({"processes": "many"}, "processes"),
        ({"processes": True}, "1 validation error"),
        ({"threads": 0}, "threads"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, object], error: str) -> None:
    with pytest.raises(ValidationError) as refused:
        tiny.encode_config(**settings)
    assert error in str(refused.value)


def test_processes_are_started_for_work_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "cores", lambda: 8)
    monkeypatch.setattr(placement, "_fitting", lambda: 100)
    each = placement.SECONDS_EACH
    seconds = [0, 1.9 * each, 2 * each, 5 * each, 1000 * each]
    assert [placement.processes_for(time, threads=1) for time in seconds] == [1, 1, 2, 5, 8]
    assert placement.processes_for(1000 * each, threads=3) == 2
    assert placement.processes_for(1000 * each, threads=16) == 1
    monkeypatch.setattr(placement, "_fitting", lambda: 3)
    assert placement.processes_for(1000 * each, threads=1) == 3


def test_one_more_process_needs_what_this_one_needed() -> None:
    assert 0 <= placement._fitting() < 10_000


def test_decoders_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "cores", lambda: 16)
    assert [placement.decoders_each(count) for count in (1, 2, 4, 16, 32)] == [8, 8, 4, 1, 1]


def test_the_number_of_threads_comes_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
