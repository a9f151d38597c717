"""The accepted findings of `make audit` are listed in two places, which must agree."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FINDING = r"(?:GHSA|PYSEC|CVE)-[\w-]+"


def accepted_by_make(makefile: str) -> set[str]:
    """Return the ids that `make audit` ignores."""
    return set(re.findall(r"^ACCEPTED :=(.*)$", makefile, re.MULTILINE)[0].split())


def accepted_by_page(page: str) -> set[str]:
    """Return the ids that a page accepts with a date, a package and a reason; fail if one lacks them."""
    dated = re.findall(rf"^- `({FINDING})` \(\d{{4}}-\d\d-\d\d, \S+ \S+\): \S", page, re.MULTILINE)
    assert set(re.findall(FINDING, page)) == set(dated)
    assert ("Accepted findings: none." in page) == (not dated)
    return set(dated)


def test_what_the_makefile_accepts_is_explained() -> None:
    makefile, page = ((ROOT / name).read_text() for name in ("Makefile", "SECURITY.md"))
    assert accepted_by_make(makefile) == accepted_by_page(page)


def test_ids_are_found_in_both() -> None:
    page = "- `GHSA-ab12-cd34-ef56` (2026-01-31, torch 2.13.0): no file of a stranger is read.\n"
    found = {"GHSA-ab12-cd34-ef56", "PYSEC-2026-1"}
    assert accepted_by_make(f"ACCEPTED := {' '.join(sorted(found))}\n") == found
    page += "- `PYSEC-2026-1` (2026-02-28, mlflow 3.17.0): its server is not started.\n"
    assert accepted_by_page(page) == found
