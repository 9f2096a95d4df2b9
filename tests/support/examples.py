"""How many examples hypothesis tries: `make test-fast` loads a profile that tries a fifth of them."""

from hypothesis import settings

FULL = 100
settings.register_profile("fast", max_examples=FULL // 5)


def examples(full: int) -> int:
    """`full`, or its share by the profile that is loaded (--hypothesis-profile)."""
    return max(1, full * settings().max_examples // FULL)
