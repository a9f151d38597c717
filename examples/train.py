"""Train one mode on stored latents and sample a video from it: one loop, without Kedro and MLflow.

    python examples/train.py --mode parallel --steps 150 --output my_training

It saves no checkpoints and measures no held-out loss; `train_mode` does both (docs/library.md).
Shapes: `B` clips, `C` latent channels, `F` frames, `h w` latent size, `L` text tokens, `D` text width.
"""

import argparse
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel

from mobius_pipeline.base_model.load import load_scheduler
from mobius_pipeline.base_model.settings import scaling_factor
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.models.pretrained import build_from_base
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.sampling.sample import sample_frames
from mobius_pipeline.training.batches import BatchSource, by_size
from mobius_pipeline.training.config import ObjectiveConfig
from mobius_pipeline.training.draws import Batches

MODES = {"serial": {}, "parallel": {"tail": 1, "width": 3 / 8}, "sum": {}}  # the options of `Variant`
BATCH, RATE, SEED, DEVICE = 4, 8e-4, 0, "cpu"
LOSS = {"min_snr_gamma": None, "zero_terminal_snr": False}
DRAWS = ObjectiveConfig(**LOSS, noise_offset=0.0, caption_dropout=0.1)


def main() -> None:
    """Read the options, train, save and sample."""
    parser = argparse.ArgumentParser(description="Train one mode and sample a video from it.")
    parser.add_argument("--latents", type=Path, default="data/05_model_input/latents", help="from `encode`")
    parser.add_argument("--base", type=Path, default="data/06_models/base", help="base of these latents")
    parser.add_argument("--mode", choices=MODES, default="parallel")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--prompt", help="default: the caption of the first held-out clip")
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights and sample.gif")
    args = parser.parse_args()

    store = LatentsStore(args.latents)
    model = build_from_base(Variant(args.mode, **MODES[args.mode]), args.base, seed=SEED).to(DEVICE).train()
    trained = trainable_parameters(model).values()  # the base's own weights are frozen
    optimizer = torch.optim.AdamW(trained, RATE, betas=(0.9, 0.99), weight_decay=0.01)
    ema = EMAModel(trained, decay=0.98)
    objective = Objective(load_scheduler(args.base), **LOSS)
    # Draws depend on (seed, step, clip) alone: every mode sees the same noise and timesteps.
    source = BatchSource(store, DRAWS, objective.timesteps, scaling_factor(args.base), SEED)
    order = Batches(by_size(store.clips("train"), BATCH), BATCH, SEED)

    for step in range(args.steps):
        batch = source.batch(order.at(step), step).to(torch.device(DEVICE), torch.float32)
        noisy = objective.add_noise(batch.latents, batch.noise, batch.timestep)  # (B, C, F, h, w)
        (prediction,) = model(noisy, batch.timestep, batch.text, return_dict=False)  # text: (B, L, D)
        target = objective.target(batch.latents, batch.noise, batch.timestep)  # epsilon or v
        loss = objective.loss(prediction, target, batch.timestep).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(trained)
        print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)

    ema.copy_to(trained)
    pipe = MobiusTextToVideoPipeline.around(model.eval(), args.base).to(DEVICE)
    pipe.save_pretrained(args.output)  # only the trained weights; `from_pretrained(base, output)` loads both
    prompt = args.prompt or store.clips("heldout")[0].caption
    sampling = {"seed": SEED, "steps": 25, "guidance_scale": 4.0, "batch_size": 1}
    (videos,) = sample_frames(pipe, [prompt], store.clip, **sampling)  # uint8 (1, F, H, W, 3)
    write_gif(args.output / "sample.gif", videos[0].numpy(), store.clip.rate)
    print(f"{args.output / 'sample.gif'}: {prompt}")


if __name__ == "__main__":
    main()
