"""The tables of clips that nodes hand to each other: what was found, what is trained on, what is left out."""

from mobius_pipeline.ingest.schema import CLIPS, MANIFEST, QUARANTINE
from mobius_pipeline.runtime.tables import StoredTable


class ClipTable(StoredTable):
    """All clips of a folder and the sources that were rejected; `ingest` writes it."""

    holds = CLIPS


class Manifest(StoredTable):
    """The clips that are trained on, with `warnings`: what they fail and are kept in spite of."""

    holds = MANIFEST


class Quarantine(StoredTable):
    """The clips and sources that are left out, with `failures` and `reason`."""

    holds = QUARANTINE
