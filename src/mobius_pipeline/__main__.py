"""Run pipelines of the installed package: `python -m mobius_pipeline` or `mobius-pipeline`, in any folder.

It works as described in https://docs.kedro.org/en/stable/deploy/package_a_project/.
"""

import os
import sys
from pathlib import Path
from typing import Any

LOGGING = Path(__file__).with_name("logging.yml")


def main(*args: Any, **kwargs: Any) -> Any:
    """Run pipelines as `kedro run` does; `args` are click's, as in `main(["--pipelines=ingest"])`.

    In an interactive session it returns the run's result; otherwise it exits with a status.
    """
    if not any(Path("conf").glob("logging.y*ml")):  # where Kedro looks; its default is verbose
        os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(LOGGING))
    from kedro.framework.project import configure_project  # reads the setting above

    configure_project("mobius_pipeline")
    from kedro.framework.cli.project import run

    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
