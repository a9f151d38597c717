"""Fine-tune a text-to-video 3D-UNet serially and in parallel streams, and compare cost and quality."""

__version__ = "0.2.0"
