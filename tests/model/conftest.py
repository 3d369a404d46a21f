"""One thread: with more, tiny networks wait for threads that a busy machine has put aside, minutes on end."""

import torch

torch.set_num_threads(1)
