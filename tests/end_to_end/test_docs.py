"""Test the README and the pages of docs/: their code blocks are run in a copy of a finished project.

`sh` and `python` blocks are run in order; a `yaml` block is merged into the file that its first line names.
`console` blocks need hours, another machine or the network. They are not run; their number is checked.
"""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from in_process import kedro
from mobius_pipeline.runtime.files import sha256
from own_clips import write_own_clips
from project import ROOT, merged, run

DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *DOCS]
YOUR_CLIPS = "docs/your_clips.md"
NOT_RUN = {
    "README.md": 1,  # make, whose steps other tests run
    "CONTRIBUTING.md": 2,  # make and pre-commit; golden losses, which tests/training compares
    "docs/ci.md": 2,  # posts to GitHub; needs npm
    "docs/compare.md": 1,  # run ids, which tests/end_to_end/test_compare_runs.py takes
    "docs/library.md": 1,  # the example, which tests/examples runs
    "docs/containers.md": 4,  # a build, which tests/end_to_end/test_package.py makes, and Docker
    "docs/lineage.md": 5,  # queued experiments and a remote, which tests/end_to_end/test_dvc.py tries
    "docs/orchestrator.md": 3,  # an Airflow, which tests/orchestrator starts
    "docs/performance.md": 1,  # minutes of `mobius plan`, which tests/planning/test_command.py runs
    "docs/pipelines.md": 2,  # Kedro-Viz, which serves until stopped; a download
    "docs/plan.md": 2,  # the same
    "docs/remote_data.md": 11,  # a bucket, which tests/end_to_end/test_remote_data.py has: it runs them
    "docs/results.md": 1,  # hours of `make study`, of which tests/study does a small one
    "docs/scale.md": 1,  # `mobius plan --clips`, whose table tests/planning/test_options.py compares
    "docs/tracking.md": 3,  # servers, which tests/tracking and tests/registry start
    "docs/your_clips.md": 1,  # an export, which tests/models/test_export.py makes
}
# Numbers for the default project, and those for the tiny one.
SMALLER = {"docs/resume.md": ("train.steps=300", "train.steps=12")}
# Files that should exist afterwards.
MADE = {
    "docs/library.md": ["ring.gif", "my_training/parallel/metrics.json"],
    "docs/tracking.md": ["champion.mp4", "data/08_reporting/registration.json"],
    "docs/plan.md": ["data/08_reporting/plan.json"],
}


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def run_block(project: Path, kind: str, text: str) -> str:
    if kind == "sh":
        return run(project, "bash", "-euo", "pipefail", "-c", text)
    if kind == "python":
        (project / "page.py").write_text(text)
        return run(project, "python", "page.py")
    if kind == "yaml":
        named = re.match(r"# (conf/\S+\.yml)\n", text)
        assert named, f"which file is this for?\n{text}"
        path = project / named[1]
        path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), yaml.safe_load(text))))
    return ""


@pytest.fixture
def reasons(copied: Path) -> dict[str, str]:
    """Put clips into `my_clips`; return the reasons for which the bad ones must be left out."""
    return write_own_clips(copied / "my_clips")


def read(copied: Path, page: str) -> str:
    """Run the blocks of a page; return the output of its commands."""
    large, small = SMALLER.get(page, ("", ""))
    found = blocks(page)
    assert large in "".join(text for _, text in found)
    smaller = [(kind, text.replace(large, small) if large else text) for kind, text in found]
    return "".join(run_block(copied, kind, text) for kind, text in smaller)


def does(page: str) -> bool:
    return not {"sh", "python"}.isdisjoint(kind for kind, _ in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides(page: str) -> None:
    kinds = [kind for kind, _ in blocks(page)]
    assert set(kinds) <= {"sh", "python", "yaml", "console", "text"}
    assert kinds.count("console") == NOT_RUN.get(page, 0)
    outside = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"^    \S.*", outside, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", text):
        if target.startswith("https://"):
            continue
        linked = (ROOT / page).parent / target if target else ROOT / page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
    for named in re.findall(r"`((?:conf|src|tests|benchmarks|examples)/[\w./]+)`", text):
        assert (ROOT / named).exists(), named


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if does(page) and page != YOUR_CLIPS])
@pytest.mark.usefixtures("reasons")
def test_a_page_does_what_it_says(copied: Path, page: str) -> None:
    read(copied, page)
    for made in MADE.get(page, []):
        assert (copied / made).stat().st_size > 0
    if "yaml" in dict(blocks(page)):
        kedro(copied, "run", "--runner=dry_runner.DryRunner")  # the resulting configuration is valid


def test_own_clips_go_through(copied: Path, reasons: dict[str, str]) -> None:
    """Clips have other sizes, rates and names, some are unusable, and the T2I model is the user's."""
    stores = copied / "data/05_model_input/latents"
    before = set(stores.iterdir())
    printed = read(copied, YOUR_CLIPS)
    quarantine = pd.read_parquet(copied / "data/03_primary/quarantine.parquet").set_index("path")["reason"]
    assert set(quarantine.index) == set(reasons)
    assert all(reason and reasons[name] in reason for name, reason in quarantine.items())
    assert all(name in printed for name in reasons)
    assert len(pd.read_parquet(copied / "data/03_primary/manifest.parquet")) == 21
    (store,) = set(stores.iterdir()) - before
    assert pd.read_parquet(store / "index.parquet")["width"].value_counts().to_dict() == {40: 15, 16: 6, 0: 1}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert sha256(copied / "data/06_models/base" / weights) == sha256(copied / "my_model" / weights)
    comparison = json.loads((copied / "data/08_reporting/comparison.json").read_text())
    assert comparison["columns"]["parallel"]["heldout_loss"] > 0
