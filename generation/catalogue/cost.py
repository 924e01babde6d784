"""What a task costs: the unit of prices, quotas, fair sharing and estimates."""


def megapixel_steps(width: int, height: int, steps: int, num_images: int) -> float:
    """Millions of pixels (before any enlargement) times denoising steps, over all pictures of a task."""
    return width * height * steps * num_images / 1e6
