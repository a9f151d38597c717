"""Parameter types of command-line options."""

from typing import Any

import click

from mobius_pipeline.runtime.addresses import local_output, local_path


class LocalPath(click.Path):
    """A path of this machine; for an address such as s3://bucket/model, the error says how to download it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an address, which `click.Path` would take for a folder."""
        return super().convert(local_path(value), param, ctx)


class LocalOutput(click.Path):
    """A local path to write to."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an address."""
        return super().convert(local_output(value, "Files are written on this machine."), param, ctx)
