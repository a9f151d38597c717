"""Limit how long OpenMP's threads spin at a barrier before they sleep.

Builds of torch for CPUs use GNU's OpenMP, whose threads spin about 300,000 times while another one waits for
a core. On a machine with other work, a step then takes several times as long as its share of the cores needs.
`benchmarks/contention.py` compares the settings.
"""

import os

SPIN_COUNT = "1000"
_OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # a user's own setting is kept


def spin_briefly() -> None:
    """Set the spin count unless the environment sets how threads wait. Call before torch is imported."""
    if not any(name in os.environ for name in _OWN):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
