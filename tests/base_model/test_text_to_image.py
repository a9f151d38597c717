"""The timesteps that the small T2I base is trained on."""

from mobius_pipeline.base_model.text_to_image import spread_timesteps
from mobius_pipeline.runtime.rng import generator


def test_each_part_of_the_schedule_gives_a_timestep() -> None:
    drawn = [spread_timesteps(8, 1000, generator("test", seed)) for seed in range(20)]
    assert all((timesteps // 125).tolist() == list(range(8)) for timesteps in drawn)
    assert len({tuple(timesteps.tolist()) for timesteps in drawn}) == 20
