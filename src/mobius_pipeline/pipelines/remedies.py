"""Explain in error messages how to make a file or folder of the catalog again."""

REMEDY = (
    "Run the pipeline that writes it (see `kedro registry list`), or correct its `filepath` in "
    "conf/base/catalog.yml."
)


def made_again(made_by: str | None) -> str:
    """Return how to make a file or folder again, with the pipeline that the catalog names, if any."""
    return f"Run `kedro run --pipelines={made_by}` to make it again." if made_by else REMEDY
