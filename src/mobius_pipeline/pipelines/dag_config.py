"""The settings of `conf/<env>/airflow.yml`, which `kedro airflow create` writes into a DAG."""

from collections.abc import Iterable, Mapping
from typing import Any

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError

DEFAULT = "default"


class DagConfig(Config):
    """A section of the file: the command that starts Kedro, and arguments of Airflow's DAG and operators."""

    kedro: str
    dag: dict[str, Any]
    tasks_with: dict[str, Any]
    gpu_tasks_with: dict[str, Any]


def check_dags(sections: Mapping[str, Mapping[str, Any]], pipelines: Iterable[str]) -> None:
    """Check that the sections are `default` or names of pipelines, and have the keys that the template reads.

    Raises:
        MobiusError: If a section is no pipeline, or a key is missing or unknown; the message names both.
    """
    named = set(sections) - {DEFAULT}
    if named and (unknown := named.difference(pipelines)):  # reading `pipelines` loads all of them
        raise MobiusError(
            "conf/base/airflow.yml (or its override in your environment): "
            f"{', '.join(sorted(unknown))} is not a pipeline. Name a section "
            f"`{DEFAULT}` or as a pipeline of `kedro registry list`."
        )
    for name, section in sections.items():
        try:
            DagConfig.model_validate({**sections.get(DEFAULT, {}), **section})
        except ValueError as error:
            raise MobiusError(
                f"conf/base/airflow.yml (or its override in your environment), section {name}: {error}"
            ) from error
