"""How a file or folder of the catalog is made again."""

REMEDY = (
    "Run the pipeline that writes it (see `kedro registry list`), or correct its `filepath` in "
    "conf/base/catalog.yml."
)


def made_again(made_by: str | None) -> str:
    """How a file or folder is made again, by the pipeline that the catalog names."""
    return f"Run `kedro run --pipelines={made_by}` to make it again." if made_by else REMEDY
