"""What `register` did: the document `registration.json`."""

from pydantic import BaseModel, ConfigDict, Field


class Registration(BaseModel):
    """Content of `registration.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name of the registered model")
    version: str
    column: str = Field(description="label of the comparison's column")
    why_chosen: str
    heldout_loss: float
    champion: str = Field(description="version that the alias `champion` names now")
    champion_moved: bool
    why: str = Field(description="why the alias moved or stayed")
    uri: str = Field(description="argument of mlflow.pyfunc.load_model")
