"""Start the processes of a training, pass on the main one's reports, and end all of them if one fails.

torch's elastic agent (the basis of torchrun) runs in this process. So there is no second command line, and
the training's processes end with this one.
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

from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document, write_json
from mobius_pipeline.runtime.redaction import guard_logs
from mobius_pipeline.runtime.signals import Terminated, signals_noted
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.layout import JOB
from mobius_pipeline.training.processes import Processes, processes_of_torchrun

log = logging.getLogger(__name__)

TO_SAVE = 120  # s; time that stopping processes get to finish the step and save a checkpoint
STOPPED = 143  # exit status of a process that stopped when asked to
# s; delay before an unexpected error is raised, so that its cause in another process is reported first
CAUSE_FIRST = 2.0
# torch's agent installs handlers for these and does not restore the old ones
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Job(Config):
    """A training as a file, which every process on every machine reads."""

    latents: Path
    base: Path
    model: Variant
    config: TrainConfig
    state: Path
    output: Path
    run_id: str | None = Field(description="MLflow run that records it")


Work = Callable[[Job, Callbacks, Processes], None]


def launch(work: Work, job: Job, callbacks: Callbacks) -> None:
    """Run `work` in the processes of this machine, the main one.

    Args:
        work: A function at module level; every process calls it.
        job: The training; written to its `state` folder, for `join`.
        callbacks: Called in a thread with the main process's reports.

    Raises:
        MobiusError: If a process fails, with its message; the others are ended.
        KeyboardInterrupt: On Ctrl-C, after all processes have stopped; on SIGTERM `Terminated`.
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
    """Run `work` in the processes of another machine, for the training that wrote `file`.

    Raises:
        MobiusError: If the file does not exist or a process fails.
    """
    if not file.is_file():
        raise MobiusError(
            f"There is no {file}. The main machine writes it when its training starts, on a file system that "
            "all machines share, and prints its path."
        )
    config = read_document(file, Job, "Start the training again on the main machine, which writes it.").config
    if config.rendezvous is None:
        raise MobiusError(f"{file} is of a training on one machine: train.rendezvous is null.")
    _run(config, work, file, None)


def _run(config: TrainConfig, work: Work, file: Path, events: Connection | None) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    _refuse_missing_gpus(config)
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # reported below, in one line
    try:
        with _handlers_kept():
            elastic_launch(_agent(config), _process)(work, file, events)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == STOPPED:  # one process was asked to stop, and all did
            raise Terminated(STOPPED) from error
        raise MobiusError(_failure(rank, failure.message)) from error
    except RendezvousError as error:
        raise MobiusError(
            f"The machines of the training did not connect ({error}). Check train.rendezvous: its endpoint "
            "must be on the main machine and reachable from all others, and all must join within 10 minutes."
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
    """Run `work` in one of the processes."""
    job = read_document(file, Job, "Start the training again, which writes it.")
    guard_logs()
    first = os.environ["LOCAL_RANK"] == "0" and events is not None
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(levelname)s %(message)s")
    with signals_noted(), processes_of_torchrun(job.config.device, leads=events is not None) as processes:
        try:
            work(job, _sending(events) if events and processes.is_main_process else Callbacks(), processes)
        except MobiusError:
            raise
        except Exception:
            time.sleep(CAUSE_FIRST)  # report first the process whose failure may have caused this one
            raise


def _sending(events: Connection) -> Callbacks:
    """Return callbacks that send their arguments to the process that started this one."""
    return Callbacks(
        metrics=lambda *what: events.send(("metrics", what)),
        preview=lambda *what: events.send(("preview", what)),
        checkpoint=lambda *what: events.send(("checkpoint", what)),
    )


@contextmanager
def _receiving(callbacks: Callbacks) -> Iterator[Connection]:
    """Yield a connection whose events are passed to `callbacks` in a thread; errors are raised at the end."""
    from torch.multiprocessing import get_context

    reader, writer = get_context("spawn").Pipe(duplex=False)
    errors: list[BaseException] = []

    def receive() -> None:
        while True:
            try:
                name, what = reader.recv()
            except EOFError:  # every process has ended; the last event of a killed one is incomplete
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
    """Restore the signal handlers at the end of the block, which torch's agent does not do."""
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
    """Return one message about the process that failed first."""
    text = message["message"] if isinstance(message, Mapping) else message
    text = text.removeprefix("MobiusError: ")
    return f"Process {rank} of the training failed, and the others were ended: {text}"
