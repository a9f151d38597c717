from mobius_pipeline.pipelines.base.pipeline import create_pipeline

__all__ = ["create_pipeline"]
