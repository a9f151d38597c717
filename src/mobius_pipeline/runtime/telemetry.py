"""Disable the telemetry of all dependencies, unless the user's environment enables it.

The switches were read in the libraries' sources. `DO_NOT_TRACK` must be `true`: MLflow accepts nothing else.
"""

import os

SWITCHES = {
    "DO_NOT_TRACK": "true",  # daft, huggingface_hub, kedro-telemetry, mlflow
    "MLFLOW_DISABLE_TELEMETRY": "true",  # the tracking client and the server's page
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, diffusers, transformers
    "KEDRO_DISABLE_TELEMETRY": "true",  # kedro-telemetry, and through it kedro-viz
    "GX_ANALYTICS_ENABLED": "false",  # Great Expectations before 1.24; later ones send nothing
    "DAFT_ANALYTICS_ENABLED": "0",  # daft
    "SCARF_NO_ANALYTICS": "true",  # daft's collector
    "DVC_NO_ANALYTICS": "true",  # dvc
    "RAY_USAGE_STATS_ENABLED": "0",  # ray, where daft runs on it
}


def silence() -> None:
    """Set all switches that the environment does not set. Call before the libraries are imported."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
