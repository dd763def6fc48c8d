"""What all tests share."""

from __future__ import annotations

import torch

# The machine's cores belong to the test workers; and sums must not depend on how many there are.
torch.set_num_threads(1)
