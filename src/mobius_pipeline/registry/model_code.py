"""Code of a registered model, which MLflow stores with the weights and runs to load the model.

https://mlflow.org/docs/latest/ml/model/models-from-code/
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.sampling.sample import sample_frames
from mobius_pipeline.training.result import TrainingResult


class TextToVideo(PythonModel):
    """Model that samples an H.264 video for each prompt."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the base and the trained weights.

        Raises:
            MobiusError: If no base is named, or it is not the base of the training.
        """
        settings = context.model_config
        base = settings["base"] or context.artifacts.get("base")
        if base is None:
            raise MobiusError(
                "This version of the model contains no base. Name its folder: mlflow.pyfunc.load_model(uri, "
                f'model_config={{"base": …}}). Its fingerprint begins with {settings["trained_over"]}.'
            )
        trained = TrainingResult(Path(context.artifacts["trained"]))
        self.pipe = trained.pipeline(BaseModel(Path(base))).to(settings["device"] or _device())
        self.clip = ClipFormat(**settings["clip"])
        self.batch_size = settings["batch_size"]

    def predict(
        self, context: PythonModelContext, model_input: list[str], params: dict[str, Any] | None = None
    ) -> list[bytes]:
        """Sample a video for each prompt.

        Args:
            context: MLflow's context, not used.
            model_input: The prompts.
            params: `seed`, `steps` and `guidance_scale` of `sample_frames`.

        Returns:
            An MP4 file (H.264) for each prompt.
        """
        frames = sample_frames(
            self.pipe, model_input, self.clip, batch_size=self.batch_size, **(params or {})
        )
        return [_mp4(video, self.clip.rate) for batch in frames for video in batch]


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _mp4(video: Any, fps: float) -> bytes:
    """Return the MP4 file of a video, uint8 (F, H, W, 3)."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        write_mp4(file, video.numpy(), fps)
        return file.read_bytes()


set_model(TextToVideo())
