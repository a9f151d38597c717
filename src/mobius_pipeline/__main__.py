"""The installed package's `kedro run`: `python -m mobius_pipeline`, or `mobius-pipeline`, in any folder.

https://docs.kedro.org/en/stable/deploy/package_a_project/ says how Kedro's users expect it to work.
"""

import os
import sys
from pathlib import Path
from typing import Any

LOGGING = Path(__file__).with_name("logging.yml")


def main(*args: Any, **kwargs: Any) -> Any:
    """Run pipelines as `kedro run` does; `args` are click's, as `main(["--pipelines=ingest"])`.

    A shell gets the exit status. An interactive session gets the run's result.
    """
    if not any(Path("conf").glob("logging.y*ml")):  # Kedro's own place, and its own default is of many words
        os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(LOGGING))
    from kedro.framework.project import configure_project  # reads the setting above

    configure_project("mobius_pipeline")
    from kedro.framework.cli.project import run

    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
