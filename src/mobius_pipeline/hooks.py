"""Kedro's hooks: telemetry off before anything else, and tracking told where the project stands."""

import sys
from types import TracebackType
from typing import Any

from kedro.framework.hooks import hook_impl

from mobius_pipeline import telemetry, tracking
from mobius_pipeline.errors import MobiusError

telemetry.silence()  # settings.py imports this module before Kedro imports any pipeline


def _plain_excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print errors that the user can mend without the traceback, which would hide them."""
    if isinstance(error, MobiusError):
        print(f"\nmobius: {error}", file=sys.stderr)
    else:
        _excepthook(kind, error, trace)


_excepthook = sys.excepthook  # Kedro's logging has put rich's in place by now
sys.excepthook = _plain_excepthook


class ProjectHooks:
    """Reads `conf/<env>/mlflow.yml` once per session. MLflow itself is imported by the first tracked run."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Configure tracking from the project's `mlflow` section.

        Raises:
            MobiusError: If the section is missing a key, or has one that nothing reads.
        """
        try:
            config = tracking.TrackingConfig.model_validate(context.config_loader["mlflow"])
        except ValueError as error:
            raise MobiusError(
                f"conf/base/mlflow.yml (or its override in your environment): {error}"
            ) from error
        tracking.configure(config, context.project_path)
