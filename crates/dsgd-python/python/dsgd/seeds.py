"""Generators of random numbers."""

import random
import sys

__all__ = ["seed_all"]


def seed_all(seed: int) -> None:
    """Seeds the generators that are in use."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        # Where no GPU is in use, torch.manual_seed writes down where it was called from, which takes longer than a small step.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
