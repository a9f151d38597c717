"""Print the comparison in the terminal."""

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mobius_pipeline.comparison import summary
from mobius_pipeline.comparison.model import Comparison
from mobius_pipeline.comparison.notes import comparison_markdown
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document

WIDTH = 100  # columns


def print_summary(data: Path, markdown: bool = False) -> None:
    """Print the comparison's table and verdict, and the paths of report and videos.

    With `markdown`, print the table and the verdict as Markdown instead.

    Raises:
        MobiusError: If there is no comparison below `data` yet.
    """
    source = data / "08_reporting/comparison.json"
    if not source.is_file():
        raise MobiusError(f"There is no comparison at {source}. Run `make demo` or `kedro run` to make one.")
    comparison = read_document(source, Comparison, "Run `kedro run --pipelines=compare` to make it again.")
    if markdown:
        print(comparison_markdown(comparison))
        return
    console = Console(width=WIDTH, highlight=False)
    console.print(comparison_table(comparison))
    console.print(comparison.verdict, soft_wrap=False, markup=False)
    console.print(f"\nReport   {source.with_suffix('.html')}", soft_wrap=True)
    for folder in _sample_folders(comparison, data / "07_model_output"):
        console.print(f"Videos   {folder}", soft_wrap=True)
    console.print("Compare the runs in MLflow:  mobius ui, or make ui", soft_wrap=True)


def _sample_folders(comparison: Comparison, media_root: Path) -> list[Path]:
    """Return the folder of each column's videos."""
    first_videos = (column.samples[0].mp4 for column in comparison.columns.values())
    return [Path(os.path.normpath(media_root / video)).parent for video in first_videos]


def comparison_table(comparison: Comparison) -> Table:
    """Return the table: one row per column, then the changes of the others relative to the first."""
    measures = summary.rows(comparison)
    first, others = comparison.first, comparison.others
    table = Table(title=" against ".join([first, *others]), title_justify="left")
    table.add_column("", no_wrap=not others[1:])
    for measure in measures:
        table.add_column(measure.name, justify="right")
    table.add_row("base, untrained", *(measure.start for measure in measures), style="dim")
    for index, label in enumerate([first, *others]):
        table.add_row(label, *(measure.values[index] for measure in measures))
    table.add_section()
    for index, label in enumerate(others):
        table.add_row(f"{label} vs {first}", *(measure.changes[index] for measure in measures), style="bold")
    return table
