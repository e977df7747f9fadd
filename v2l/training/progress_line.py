"""How a training stands, in a line of text for logs and progress bars."""

from datetime import timedelta

REPORT_SECONDS = 30  # between such lines of a log
SHOWN_LOSSES = ("pixel", "perceptual", "quantizer", "discriminator")


def progress_line(values: dict, batch_size: int) -> str:
    """`step 120 of 5000, pixel 0.31, ... 12.5% of the codes (perplexity 344), 512 images/s, 0:42:10 left`.

    `values`: a line of the training's metrics with steps and, if known, images_per_second.
    """
    text = f"step {values['step']} of {values['steps']}, {standing(values)}"
    if speed := values.get("images_per_second"):
        left = (values["steps"] - values["step"]) * batch_size / speed
        text += f", {speed:.0f} images/s, {timedelta(seconds=round(left))} left"
    return text


def standing(values: dict) -> str:
    """Losses and codebook usage of a line of the metrics, as far as it has them."""
    parts = [f"{name} {values[name]:.3g}" for name in SHOWN_LOSSES if name in values]
    if "codes_share" in values:
        parts.append(f"{values['codes_share']:.1%} of the codes (perplexity {values['codes_perplexity']:.0f})")
    return ", ".join(parts)
