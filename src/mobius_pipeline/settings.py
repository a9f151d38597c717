"""Kedro's project settings: https://docs.kedro.org/en/stable/configure/configuration_basics/."""

from pathlib import Path

from mobius_pipeline.hooks import ProjectHooks
from mobius_pipeline.runtime.addresses import address

HOOKS = (ProjectHooks(),)


def home(path: str) -> str:
    """Return a path with `~` and `~name` expanded; an address is unchanged, for the catalog to refuse."""
    return address(path) or str(Path(path).expanduser())


CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"home": home},
    "config_patterns": {"tracking": ["tracking*", "tracking*/**"], "airflow": ["airflow*", "airflow*/**"]},
    # Dictionaries are merged key by key, so an environment holds only what differs from conf/base.
    "merge_strategy": {"globals": "soft", "parameters": "soft", "airflow": "soft"},
}
