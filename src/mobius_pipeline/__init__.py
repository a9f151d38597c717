"""Fine-tune a text-to-video 3D-UNet serially and in parallel streams, and compare cost and quality."""

from mobius_pipeline.runtime.threads import spin_briefly

__version__ = "0.2.0"

spin_briefly()  # before any module imports torch
