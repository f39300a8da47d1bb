"""Training of the bundled model's VAE on crops of drawn scenes (pictures only)."""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.tiny.scenes import SIZE, SPLITS, render
from workbench.tiny.training import components
from workbench.tiny.training.fastest_precision import mixed

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)


def pictures(seeds: range, size: int = SIZE) -> torch.Tensor:
    """Scenes of the given seeds as (scene, channel, pixel_y, pixel_x) uint8, drawn by all cores."""
    with ProcessPoolExecutor() as pool:
        images = np.stack(list(pool.map(_picture, seeds, [size] * len(seeds), chunksize=50)))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _picture(seed: int, size: int) -> np.ndarray:
    return render(seed, size).image


def to_model(images: torch.Tensor) -> torch.Tensor:
    """uint8 pixels to the [-1, 1] floats the VAE takes."""
    return images.float() / 127.5 - 1


def train_autoencoder(
    folder: Path, steps: int, device: str = "cpu", scenes: int = 4000, batch: int = 12, seed: int = 0
) -> AutoencoderKL:
    """Train the VAE, normalise its latents to unit variance, and save it.

    The loss is L1 + squared error + the error of neighbouring differences (edges) + a small Kullback-Leibler term; the
    learning rate falls linearly to zero.

    Parameters
    ----------
    folder
        Where ``vae/`` is written; an existing one is loaded and returned instead.
    steps
        Number of steps.
    device
        Torch device.
    scenes
        Number of training scenes held in memory.
    batch
        Crops of 64 x 64 pixels in a step.
    seed
        Seed of weights, crops and posterior samples.
    """
    from diffusers import AutoencoderKL

    if (folder / "vae" / "config.json").exists():
        existing: AutoencoderKL = AutoencoderKL.from_pretrained(folder / "vae")
        existing.to(device)  # type: ignore[arg-type]
        return existing
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    bank = pictures(range(SPLITS["train"].start, SPLITS["train"].start + scenes))
    vae = components.autoencoder()
    vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-arg]
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, step / 100) * (1 - step / steps)
        top, left = (int(offset) for offset in rng.integers(0, SIZE - 63, 2))
        rows = torch.from_numpy(rng.integers(0, len(bank), batch))
        images = to_model(bank[rows, :, top : top + 64, left : left + 64]).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        with mixed(device):
            posterior = vae.encode(images).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        error = decoded - images
        edges = (error[..., 1:, :] - error[..., :-1, :]).abs().mean() + (error[..., 1:] - error[..., :-1]).abs().mean()
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + error.square().mean() + 0.5 * edges + 2e-4 * divergence
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0:
            psnr = -10 * torch.log10(error.detach().square().mean() / 4)
            logger.info("vae step %d, loss %.4f, crop PSNR %.2f dB", step, float(loss.detach()), psnr)
    vae.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-arg]
    with torch.no_grad():
        latents = vae.encode(to_model(bank[:400]).to(device)).latent_dist.sample()
    vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
    logger.info("vae trained in %d steps, held-out PSNR %.2f dB", steps, held_out_psnr(vae, device).mean())
    vae.save_pretrained(folder / "vae")
    return vae


@torch.no_grad()
def held_out_psnr(vae: AutoencoderKL, device: str = "cpu", seeds: range = SPLITS["validation"][:200]) -> torch.Tensor:
    """Peak signal-to-noise ratio (dB) of the posterior's mean, decoded, for each held-out scene."""
    images = to_model(pictures(seeds)).to(device)
    decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in images.split(50)])
    error = (decoded.clamp(-1, 1) - images).square().mean((1, 2, 3))
    return -10 * torch.log10(error / 4)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: torch.Tensor, device: str = "cpu") -> torch.Tensor:
    """Normalised latents (scene, latent channel, cell_y, cell_x) in bfloat16, one posterior sample per picture."""
    config: Any = vae.config
    shift, scale = config.shift_factor, config.scaling_factor
    parts = []
    for part in images.split(64):
        with mixed(device):
            latents = vae.encode(to_model(part).to(device)).latent_dist.sample()
        parts.append(((latents.float() - shift) * scale).bfloat16().cpu())
    return torch.cat(parts)
