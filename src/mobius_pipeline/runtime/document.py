"""Base class of the models of JSON files."""

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A JSON file or a part of one: immutable, without unknown keys; NaN and infinity are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
