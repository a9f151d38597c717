"""The index of Data Docs with plain tables; Great Expectations draws its own by scripts from the internet."""

from pathlib import Path
from typing import Any

from great_expectations.render.view import DefaultJinjaIndexPageView
from jinja2 import ChoiceLoader, FileSystemLoader


class IndexView(DefaultJinjaIndexPageView):
    """Great Expectations' view of the index, with this package's templates before its own."""

    def __init__(self, **options: Any) -> None:
        """Take what Great Expectations gives its views."""
        super().__init__(**options)
        own = FileSystemLoader(Path(__file__).with_name("templates"))
        self.env.loader = ChoiceLoader([own, self.env.loader])
