"""`conf/<env>/airflow.yml`: what `kedro airflow create` writes into a DAG, beside the pipelines."""

from collections.abc import Iterable, Mapping
from typing import Any

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError

DEFAULT = "default"


class DagConfig(Config):
    """A section: the command that starts Kedro, and arguments of Airflow's DAG and operators."""

    kedro: str
    dag: dict[str, Any]
    tasks_with: dict[str, Any]
    gpu_tasks_with: dict[str, Any]


def check_dags(sections: Mapping[str, Mapping[str, Any]], pipelines: Iterable[str]) -> None:
    """See that the sections are `default` and names of pipelines, and hold what the template reads.

    Raises:
        MobiusError: With the section, and the key that is missing or that nothing reads.
    """
    named = set(sections) - {DEFAULT}
    if named and (unknown := named.difference(pipelines)):  # asking for them loads all pipelines
        raise MobiusError(
            "conf/base/airflow.yml (or its override in your environment): "
            f"{', '.join(sorted(unknown))} is not a pipeline. A section is "
            f"`{DEFAULT}`, or a name of `kedro registry list`."
        )
    for name, section in sections.items():
        try:
            DagConfig.model_validate({**sections.get(DEFAULT, {}), **section})
        except ValueError as error:
            raise MobiusError(
                f"conf/base/airflow.yml (or its override in your environment), section {name}: {error}"
            ) from error
