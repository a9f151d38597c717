"""How long OpenMP's threads spin at a barrier before they sleep.

Builds of torch for CPUs use GNU's OpenMP. Its threads spin some 300,000 times while another one waits for a
core: on a machine with other work a step takes several times as long as its share. `benchmarks/contention.py`
compares.
"""

import os

SPIN_COUNT = "1000"
_OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # a user's own setting stays


def spin_briefly() -> None:
    """Set the spin count, unless the environment says how to wait. Call before torch is imported."""
    if not any(name in os.environ for name in _OWN):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
