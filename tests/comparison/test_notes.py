"""Test the descriptions of runs on their pages in MLflow."""

import comparison_example
import training_example
from mobius_pipeline.comparison.notes import comparison_markdown, comparison_note, training_note


def test_a_training_says_what_it_cost_and_reached_in_its_first_words() -> None:
    note = training_note(training_example.description(), training_example.metrics())
    cost = "Parallel: peak memory 1.50 GiB, median step 250 ms, held-out loss 0.1500 (untrained 0.2000, "
    assert note.startswith(cost)
    assert "300 steps of 4 clips, seed 7, cuda, 1.50 M trainable parameters, 75.0 s of training" in note
    assert "Samples" not in note


def test_an_evaluated_training_says_how_its_samples_scored_as_far_as_they_were() -> None:
    scores = training_example.quality(prompt_match=0.25, colour=1.0)
    scored = training_note(training_example.description(), training_example.metrics(), scores)
    assert "all of it 25%, colour 100%, shape \N{EN DASH}, motion \N{EN DASH}" in scored


def test_a_comparison_begins_with_the_changes_and_holds_table_and_verdict() -> None:
    comparison = comparison_example.comparison()
    note = comparison_note(comparison)
    first, table, verdict, _ = note.split("\n\n")
    assert note.startswith(comparison_markdown(comparison))
    minus = "\N{MINUS SIGN}"
    cost = f"peak memory {minus}40.9%, median step {minus}30.3%"
    assert first == f"Parallel against serial: {cost}, loss at equal steps +1.2%, at equal compute +1.2%."
    assert f"| Peak memory |  | 2.08 GiB | 1.23 GiB | {minus}40.9% |" in table.splitlines()
    assert verdict == comparison.verdict


def test_texts_of_others_are_no_markdown() -> None:
    label = "parallel <img src=x onerror=alert(1)> | [a](javascript:alert(2)) `b` *c* @d"
    columns = comparison_example.comparison().columns
    against = comparison_example.change(1.2, 0.4, 2.0)
    comparison = comparison_example.compared(
        {"serial": columns["serial"], label: columns["parallel"]}, against
    )
    shown = (
        "parallel &lt;img src=x onerror=alert(1)&gt; \\| \\[a\\](javascript:alert(2)) \\`b\\` \\*c\\* &#64;d"
    )
    note = comparison_note(comparison.model_copy(update={"verdict": f"{label} is best."}))
    assert f"{shown} is best." in note
    assert f"| {shown} | {shown} vs serial |" in note
    assert label not in note
    hostile = training_example.description(devices=["cuda<script>"])
    assert "cuda&lt;script&gt;" in training_note(hostile, training_example.metrics())
