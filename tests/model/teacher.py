"""A teacher small enough for a test, as the file that `model.lessons` is given."""

TEACHER = '''
"""Calls an epoch with more beta than before wake; of the shape that model.streamed asks for."""
import torch
from torch import nn

RATE_HZ = 60


class Beta(nn.Module):
    def forward(self, x):
        return x[:, 0, 34:60].mean((1, 2)).unsqueeze(1)


class Running(nn.Module):
    def forward(self, x):
        return x + 0.1 * x.mean(1, keepdim=True)


class Classifier(nn.Module):
    def forward(self, x):
        return torch.cat([3 * x, 0 * x, -3 * x, 0 * x, 0 * x], -1)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.hanning = torch.hann_window(128) / 64
        self.encoder_eeg, self.reducer_eeg = Beta(), nn.Identity()
        self.sequence_encoder, self.classifier = Running(), Classifier()


class Teacher:
    def __init__(self):
        self.networks = {"one": Network(), "other": Network()}
'''
