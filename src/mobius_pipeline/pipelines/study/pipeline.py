"""The `study` pipeline, which runs only on request, because it trains for hours."""

from kedro.pipeline import Pipeline, node, pipeline

from mobius_pipeline.pipelines.study.nodes import draw_study, run_study


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline from latents and base to the study's results and the pictures of its fronts."""
    inputs = ["latents", "base_model"]
    parameters = ["train", "study", "sample", "evaluate"]
    return pipeline(
        [
            node(
                run_study,
                inputs=[*inputs, *(f"params:{name}" for name in parameters), "work"],
                outputs="study",
                name="run_study",
                tags="gpu",
            ),
            node(draw_study, inputs=["study", "work"], outputs="study_pictures", name="draw_study"),
        ]
    )
