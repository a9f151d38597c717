"""Kedro hooks: disable telemetry, configure tracking, reject unused parameters, allow a single writer."""

import logging
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.validation import ParameterValidationError
from omegaconf import OmegaConf

from mobius_pipeline.conf_source import conf_texts, refuse_empty
from mobius_pipeline.pipelines.dag_config import check_dags
from mobius_pipeline.runtime import telemetry
from mobius_pipeline.runtime.addresses import local_output
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from mobius_pipeline.runtime.locks import only_writer
from mobius_pipeline.runtime.mappings import flatten
from mobius_pipeline.runtime.redaction import guard_logs, redacted, redacted_traceback
from mobius_pipeline.runtime.scratch import SCRATCHES, discard_unpublished, remove_leftovers, scratch_of
from mobius_pipeline.runtime.signals import end_with_orchestrator, sigterm_unwinds
from mobius_pipeline.runtime.threads import spin_briefly
from mobius_pipeline.tracking import api as tracking

log = logging.getLogger(__name__)

ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

# settings.py imports this module before Kedro imports any pipeline, and torch with it.
telemetry.silence()
spin_briefly()


def _plain_excepthook(
    otherwise: ExceptHook, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print errors that the user can fix without their traceback, which would hide the message."""
    words = redacted(str(error)) if isinstance(error, ParameterValidationError) else in_plain_words(error)
    if words is not None:
        print(f"\nmobius: {words}", file=sys.stderr)
    elif shown := redacted_traceback(error):
        print(shown, file=sys.stderr)
    else:
        otherwise(kind, error, trace)


def print_errors_plainly() -> None:
    """Install `_plain_excepthook`, which leaves other errors to the hook that is in place.

    Kedro installs rich's hook each time it configures logging.
    """
    if getattr(sys.excepthook, "func", None) is not _plain_excepthook:
        sys.excepthook = partial(_plain_excepthook, sys.excepthook)


print_errors_plainly()
guard_logs()


class ProjectHooks:
    """Configures tracking once per session, and checks each run. Only tracked runs import MLflow."""

    def __init__(self) -> None:
        self._locks = ExitStack()

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Configure tracking from `tracking.yml`, and let this process end with its orchestrator.

        Raises:
            MobiusError: If there is no configuration, `tracking.yml` lacks a key or has an unknown one, or
                `data` of globals.yml is an address.
        """
        print_errors_plainly()
        sigterm_unwinds()
        end_with_orchestrator()
        source = str(context.config_loader.conf_source)
        refuse_empty(source)
        _configure_tracking(context)
        with suppress(MissingConfigException):  # a project without DAGs may remove it
            check_dags(context.config_loader["airflow"], pipelines)
        _warn_of_home(Path(source) / "base/globals.yml")
        local_output(
            context.config_loader["globals"].get("data", ""),
            "`data` of globals.yml is where folders are published and mapped into memory.",
        )
        self._catalog_reads = catalog_parameters(source)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Iterable[str]
    ) -> None:
        """Check a run before its first node computes, and remove what killed runs have left.

        A name in `--params` that nothing in this run reads is refused; Kedro would silently ignore it. The
        files that the run reads must exist, and MLflow must be able to record. Leftovers of all pipelines are
        removed, since they take space on the disk.

        Raises:
            MobiusError: With the unread names, similar ones, and what this run reads; or with the missing
                files or steps; or with the reason why MLflow cannot record.
        """
        read = {name.removeprefix("params:") for name in pipeline.inputs() if name.startswith("params:")}
        given = [name for name, _ in flatten(run_params["runtime_params"])]
        unread = [name for name in given if not is_read(name, read | self._catalog_reads)]
        if unread:
            known = {name.removeprefix("params:") for name in catalog} | self._catalog_reads
            guesses = [
                guess
                for name in unread
                for guess in get_close_matches(name, known - {*given}, n=1, cutoff=0.8)
            ]
            raise MobiusError(
                f"--params: nothing in this run reads {', '.join(unread)}. "
                + (f"Did you mean {', '.join(guesses)}? " if guesses else "")
                + f"It reads {', '.join(sorted(read | self._catalog_reads))}, and the keys below them."
            )
        discard_unpublished()  # of a run that was interrupted in a notebook
        for left in left_behind(catalog):
            remove_leftovers(left)
        refuse_missing_steps(pipeline, catalog)
        refuse_different_manifests(pipeline, catalog)
        refuse_missing(pipeline, catalog)
        if any("tracked" in node.tags for node in pipeline.nodes):
            tracking.check()

    @hook_impl
    def before_node_run(self, node: Node, catalog: Any) -> None:
        """Refuse to run a node while another process runs it with the same work folder.

        The lock is held until the run ends, since Kedro saves a node's outputs after its last hook.

        Raises:
            MobiusError: With the id of that process.
        """
        if "work" in catalog:
            path = catalog.load("work") / "locks" / node.name
            self._locks.enter_context(only_writer(path, f"The output of the step {node.name}"))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Remove unpublished outputs and release the locks."""
        discard_unpublished()
        self._locks.close()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Remove unpublished outputs and release the locks."""
        discard_unpublished()
        self._locks.close()


def refuse_missing(pipeline: Pipeline, catalog: Any) -> None:
    """Check that the files that a run reads and does not write exist, before its first node computes.

    Raises:
        MobiusError: With the missing file, and how to create it.
    """
    from mobius_pipeline.pipelines.files import DocumentDataset, TableDataset
    from mobius_pipeline.pipelines.folders import FolderDataset

    for name in sorted(pipeline.inputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, FolderDataset | DocumentDataset | TableDataset) and not dataset.exists():
            dataset.load()  # raises an error that says what to do


def refuse_different_manifests(pipeline: Pipeline, catalog: Any) -> None:
    """Check that the earlier manifest that a run reads is the file that it writes as the manifest.

    Raises:
        MobiusError: If not: clips that were trained on could then be held out later.
    """
    if "manifest" in pipeline.all_outputs() and {"earlier_manifest", "manifest"} <= {*catalog}:
        earlier, manifest = catalog.load("earlier_manifest"), catalog.get("manifest").place
        if str(earlier) != str(manifest):
            raise MobiusError(
                f"The catalog's `earlier_manifest` is {earlier}, and `manifest` is {manifest}. Both must "
                "name the same file: clips listed there were trained on, and must not be held out later."
            )


def refuse_missing_steps(pipeline: Pipeline, catalog: Iterable[str]) -> None:
    """Refuse a run without the steps that make its in-memory inputs, for which Kedro prints a traceback.

    Raises:
        MobiusError: With those steps.
    """
    missing = {name for name in pipeline.inputs() if name not in catalog}
    steps = {one.name for whole in pipelines.values() for one in whole.nodes if missing & {*one.outputs}}
    if steps:
        raise MobiusError(
            f"This run needs {', '.join(sorted(missing))}, which other steps pass on in memory. "
            f"Run these too: --from-nodes={','.join(sorted(steps))}"
        )


def left_behind(catalog: Any) -> list[Path]:
    """Return the scratch folders beside the outputs of all pipelines, in stores, and in the work folder."""
    from mobius_pipeline.pipelines.folders import StoreDataset

    names = set().union(*(pipeline.all_outputs() for pipeline in pipelines.values()))
    every = (catalog.get(name) for name in sorted(names) if name in catalog)
    outputs = [one for one in every if getattr(one, "_protocol", "file") == "file"]
    places = [place for one in outputs if (place := getattr(one, "_filepath", None)) is not None]
    within = [Path(one._filepath) for one in outputs if isinstance(one, StoreDataset)]
    within += [catalog.load("work")] if "work" in catalog else []
    beside = [scratch_of(Path(place)) for place in places]
    return [path for path in beside if path.exists()] + [
        path for folder in within for path in folder.rglob(SCRATCHES)
    ]


def _configure_tracking(context: Any) -> None:
    loader = context.config_loader
    tracking.refuse_former_name(Path(loader.conf_source))
    config = tracking.parse(loader["tracking"])
    credentials: dict[str, Any] = {}
    with suppress(MissingConfigException):  # credentials are optional
        credentials = loader["credentials"]
    tracking.log_in(config, credentials)
    tracking.configure(config, context.project_path)


def _warn_of_home(paths: Path) -> None:
    """Warn of paths with `~`: DVC reads this file too, and takes `~` for a folder of that name."""
    written: Any = OmegaConf.load(paths) if paths.is_file() else {}
    for key, value in written.items():
        if isinstance(value, str) and value.startswith("~"):
            log.warning(
                "`%s: %s` in conf/base/globals.yml works only with `kedro run`. DVC does not expand `~`; "
                "for `dvc repro` write %s.",
                key,
                value,
                Path(value).expanduser(),
            )


def catalog_parameters(source: str) -> set[str]:
    """Return the names that catalogs below `source` take from `--params` (`${runtime_params:clips,…}`)."""
    texts = conf_texts(source, "*/catalog*.yml")
    return {name for text in texts for name in re.findall(r"\$\{runtime_params:([\w.]+)", text)}


def is_read(name: str, read: set[str]) -> bool:
    """Return whether a dotted name is one of `read`, or is below or above one of them."""
    return any(f"{name}.".startswith(f"{one}.") or one.startswith(f"{name}.") for one in read)
