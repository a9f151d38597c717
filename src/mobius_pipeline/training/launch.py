"""Start the processes of a training, report what the main one reports, and end them all if one fails.

torch's elastic agent (what torchrun is made of) runs within this process, so there is no second command line,
and its processes end with this one.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import Field

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document, write_json
from mobius_pipeline.runtime.redaction import guard_logs
from mobius_pipeline.runtime.signals import Terminated, signals_noted
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.layout import JOB
from mobius_pipeline.training.processes import Processes, processes_of_torchrun

log = logging.getLogger(__name__)

TO_SAVE = 120  # s; how long processes that are asked to stop have for the current step and a checkpoint
STOPPED = 143  # exit status of a process that stopped when asked to
CAUSE_FIRST = 2.0  # s; how long a process waits that may have failed because another one did
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # by torch's agent, for good


class Job(Config):
    """A training, as a file: what every process of every machine reads."""

    latents: Path
    base: Path
    model: ModelConfig
    config: TrainConfig
    state: Path
    output: Path
    notes: dict[str, Any] = Field(description="written beside the metrics")


Work = Callable[[Job, Callbacks, Processes], None]


def launch(work: Work, job: Job, callbacks: Callbacks) -> None:
    """Run `work` in the processes of this machine, which leads.

    Args:
        work: A function of a module; every process calls it.
        job: What to do; written to its `state`, for `join`.
        callbacks: Called in a thread with what the main process reports.

    Raises:
        MobiusError: If a process fails, with its message; the others are ended.
        KeyboardInterrupt: On Ctrl-C, when all have stopped; on SIGTERM `Terminated`.
    """
    file = job.state / JOB
    write_json(file, job.model_dump(mode="json"))
    if job.config.rendezvous:
        log.warning(
            "Waiting for %d machines at %s. On each of the others: mobius join %s",
            job.config.rendezvous.nodes,
            job.config.rendezvous.endpoint,
            file,
        )
    with _receiving(callbacks) as events:
        _run(job.config, work, file, events)


def join(work: Work, file: Path) -> None:
    """Run `work` in the processes of another machine, of the training that `file` was written for.

    Raises:
        MobiusError: If there is no such file, or a process fails.
    """
    if not file.is_file():
        raise MobiusError(
            f"There is no {file}. The machine that leads writes it when its training starts, on a file "
            "system that all machines share, and names it."
        )
    config = read_document(
        file, Job, "Start the training again on the machine that leads: that writes it."
    ).config
    if config.rendezvous is None:
        raise MobiusError(f"{file} is a training of one machine: train.rendezvous is null.")
    _run(config, work, file, None)


def _run(config: TrainConfig, work: Work, file: Path, events: Connection | None) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    _refuse_missing_gpus(config)
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # summed up below, in one line
    try:
        with _handlers_kept():
            elastic_launch(_agent(config), _process)(work, file, events)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == STOPPED:  # it alone was asked to stop, and all did
            raise Terminated(STOPPED) from error
        raise MobiusError(_failure(rank, failure.message)) from error
    except RendezvousError as error:
        raise MobiusError(
            f"The machines of the training did not meet ({error}). Check train.rendezvous: its endpoint must "
            "be the machine that leads, reachable from all, and so many machines must join within 10 minutes."
        ) from error
    except SignalException as error:
        raise (KeyboardInterrupt() if error.sigval == signal.SIGINT else Terminated(STOPPED)) from error


def _agent(config: TrainConfig) -> Any:
    from torch.distributed.launcher.api import LaunchConfig

    nodes = config.rendezvous.nodes if config.rendezvous else 1
    return LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=config.num_processes,
        run_id="mobius" if config.rendezvous else uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=config.rendezvous.endpoint if config.rendezvous else "127.0.0.1:0",
        local_addr=None if config.rendezvous else "127.0.0.1",
        max_restarts=0,
        shutdown_timeout=TO_SAVE,
    )


def _refuse_missing_gpus(config: TrainConfig) -> None:
    if config.device == "cuda":
        import torch

        if config.num_processes > (there := torch.cuda.device_count()):
            raise MobiusError(
                f"train.num_processes is {config.num_processes}, and this machine has {there} GPUs: lower it."
            )


def _process(work: Work, file: Path, events: Connection | None) -> None:
    """What each process runs."""
    job = read_document(file, Job, "Start the training again: that writes it.")
    guard_logs()
    first = os.environ["LOCAL_RANK"] == "0" and events is not None
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(levelname)s %(message)s")
    with signals_noted(), processes_of_torchrun(job.config.device, leads=events is not None) as processes:
        try:
            work(job, _sending(events) if events and processes.is_main_process else Callbacks(), processes)
        except MobiusError:
            raise
        except Exception:
            time.sleep(CAUSE_FIRST)  # let the one be seen whose end may have made this one fail
            raise


def _sending(events: Connection) -> Callbacks:
    """Callbacks that send their arguments to the process that started this one."""
    return Callbacks(
        metrics=lambda *what: events.send(("metrics", what)),
        preview=lambda *what: events.send(("preview", what)),
        checkpoint=lambda *what: events.send(("checkpoint", what)),
    )


@contextmanager
def _receiving(callbacks: Callbacks) -> Iterator[Connection]:
    """Yield a connection whose events `callbacks` gets, in a thread; its error is raised at the end."""
    from torch.multiprocessing import get_context

    reader, writer = get_context("spawn").Pipe(duplex=False)
    errors: list[BaseException] = []

    def receive() -> None:
        while True:
            try:
                name, what = reader.recv()
            except EOFError:  # every process has ended, the last event unfinished if it was killed
                return
            try:
                getattr(callbacks, name)(*what)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=receive, name="events of the training", daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        writer.close()
        thread.join()
        reader.close()
    if errors:
        raise errors[0]


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put signal handlers back afterwards: torch's agent leaves its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _failure(rank: int, message: Any) -> str:
    """One message of the process that failed first."""
    text = message["message"] if isinstance(message, Mapping) else message
    text = text.removeprefix("MobiusError: ")
    return f"Process {rank} of the training failed, and the others were ended: {text}"
