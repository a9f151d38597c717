"""Test the main figures of a training, which DVC's tables show."""

from mobius_pipeline.evaluation.evaluation import Evaluation
from mobius_pipeline.pipelines.evaluate.nodes import main_figures
from training_example import metrics, quality

AT_STEPS = {"loss": 0.16, "by_timestep": {}, "by_clip": {}}


def test_they_are_what_a_person_decides_by() -> None:
    evaluation = Evaluation.of(
        metrics(heldout_at_steps=AT_STEPS), "r", quality(prompt_match=0.5, frechet=3.0)
    )
    assert main_figures("serial", evaluation) == {
        "serial": {"peak_gib": 1.5, "step_s": 0.25, "loss_at_steps": 0.16, "loss": 0.15, "match": 0.5}
    }


def test_what_was_not_measured_is_none() -> None:
    ended = main_figures("sum", Evaluation.of(metrics(), "r", quality()))["sum"]
    assert ended["loss_at_steps"] == 0.15  # the training ended at equal steps
    assert ended["match"] is None


def test_dvcs_tables_have_no_values_by_clip_or_step() -> None:
    evaluation = Evaluation.of(metrics(heldout_at_steps=AT_STEPS), "of the evaluation", quality())
    shown = evaluation.model_dump(mode="json")
    assert shown["run_id"] == "of the evaluation"
    assert shown["heldout_loss_at_steps"] == 0.16
    assert not shown.keys() & {"history", "heldout_by_clip", "heldout_watched", "heldout_at_steps"}
