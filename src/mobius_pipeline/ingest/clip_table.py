"""Define the tables of clips that nodes exchange: all clips, the manifest and the quarantine."""

from mobius_pipeline.ingest.schema import CLIPS, MANIFEST, QUARANTINE
from mobius_pipeline.runtime.tables import StoredTable


class ClipTable(StoredTable):
    """All clips of a folder and the rejected sources; `ingest` writes it."""

    holds = CLIPS


class Manifest(StoredTable):
    """The clips to train on; `warnings` lists the expectations that a clip fails without being left out."""

    holds = MANIFEST


class Quarantine(StoredTable):
    """The clips and sources that are left out; `failures` and `reason` say why."""

    holds = QUARANTINE
