from mobius_pipeline.pipelines.study.pipeline import create_pipeline

__all__ = ["create_pipeline"]
