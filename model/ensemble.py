"""Several networks as one: the mean of their probabilities.

One network that knows amplitude and one that knows shape err in different places. All have the same width and
context. What the streams remember is laid side by side, so that the engine sees one network.

A network that sees power standardised over the past knows little while there is little of it: deep sleep is
like anything else then. So the last member's share can grow with what it has heard (`settling_epochs`).
"""

# No `from __future__ import annotations` here: TorchScript reads the annotations themselves.
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.mc2sleepnet import MC2SleepNet, State
from model.standard import Past
from streamer.errors import ArtifactError


class Ensemble(nn.Module):
    """Networks of one width and context whose probabilities are averaged; `advance` as `MC2SleepNet`'s.

    Args:
        members: one or more; those that standardise over the past come last, and over equally many epochs.
        shares: of each in the mean; they add up to 1.
        stage_weights: that multiply the means, for nights in which a stage is as much more frequent.
        settling_epochs: after which the last has half of its share, and others have the rest; 0: all at once.

    Raises:
        ArtifactError: their pasts cannot be laid side by side, or nothing can settle.

    """

    shares: Tensor
    stage_weights: Tensor
    temperature: Tensor
    settling_epochs: Tensor
    last: Tensor
    others: Tensor

    def __init__(
        self,
        members: Sequence[MC2SleepNet],
        shares: Sequence[float],
        stage_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0),
        settling_epochs: float = 0.0,
    ) -> None:
        super().__init__()
        shapes = {(one.context, one.ahead, *one.memory_shape[1:]) for one in members}
        if len(shapes) != 1:
            raise ArtifactError("ensemble: its members differ in width, heads or context; give others")
        self.members = nn.ModuleList(members)
        self.layers = [one.memory_shape[0] for one in members]
        self.widths = [one.features for one in members]  # F of each
        self.features = sum(self.widths)
        self.memory_shape = (sum(self.layers), *members[0].memory_shape[1:])
        self.register_buffer("shares", torch.tensor(list(shares)))
        self.register_buffer("stage_weights", torch.tensor(list(stage_weights)))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("settling_epochs", torch.tensor(float(settling_epochs)))
        if settling_epochs and (len(members) == 1 or not members[-1].standard.trailing):
            raise ArtifactError(
                "ensemble: settling needs a last member that standardises over the past, and another one"
            )
        last = self.shares.clone()
        last[:-1] = 0
        self.settled = float(last.sum())
        self.register_buffer("last", last)
        self.register_buffer("others", (self.shares - last) / max(1 - self.settled, 1e-6))

    def shares_by(self, weight: Tensor) -> Tensor:
        """Return the shares (..., members) where `weight` epochs (...) count for the last one's scale."""
        heard = weight.square() + 1e-12
        trust = (heard / (heard + self.settling_epochs.square())).unsqueeze(-1)
        return trust * self.last + (1 - self.settled * trust) * self.others

    def shares_of(self, spectrum: Tensor, present: Tensor, past: Past) -> Tensor:
        """Return the shares at each epoch: as `encode` is given them -> (B, T, members)."""
        last = self.members[-1]  # standardises if any does
        weight: Tensor = last.weights(spectrum, present, past)  # type: ignore[operator]
        return self.shares_by(weight)

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` streams that have seen nothing."""
        memory: list[Tensor] = []
        mean: list[Tensor] = []
        square: list[Tensor] = []
        seen = torch.zeros(batch, dtype=torch.int64, device=self.shares.device)
        weight = torch.zeros(batch, device=self.shares.device)
        for one in self.members:
            state: State = one.initial_state(batch)  # type: ignore[operator]
            memory.append(state.memory)
            mean.append(state.mean)
            square.append(state.square)
        return State(torch.cat(memory, 1), seen, weight, torch.cat(mean, 1), torch.cat(square, 1))

    def advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """Take the next T epochs of live streams, as `MC2SleepNet.advance`; logits are logs of the means."""
        mixed = torch.zeros(1)
        memory: list[Tensor] = []
        mean: list[Tensor] = []
        square: list[Tensor] = []
        seen, weight = state.seen, state.weight
        shares = self.shares_of(spectrum, present, Past(state.weight, state.mean, state.square))
        layer, feature = 0, 0
        for number, one in enumerate(self.members):
            layers, features = self.layers[number], self.widths[number]
            own = State(
                state.memory[:, layer : layer + layers],
                state.seen,
                state.weight,
                state.mean[:, feature : feature + features],
                state.square[:, feature : feature + features],
            )
            logits, after = one.advance(raw, spectrum, present, own)  # type: ignore[operator]
            part = torch.softmax(logits.float(), -1) * shares[:, :, number, None]
            mixed = part if number == 0 else mixed + part
            memory.append(after.memory)
            mean.append(after.mean)
            square.append(after.square)
            seen, weight = after.seen, after.weight  # the last one's, which standardises if any does
            layer, feature = layer + layers, feature + features
        kept = State(torch.cat(memory, 1), seen, weight, torch.cat(mean, 1), torch.cat(square, 1))
        return torch.log(mixed * self.stage_weights) / self.temperature, kept

    def forward(self, raw: Tensor, spectrum: Tensor, present: Tensor) -> Tensor:
        """Whole sequences at once: (B, T, 3000), (B, T, 29, 128), (B, T, 2) -> logits (B, T, 1, 5)."""
        mixed = torch.zeros(1)
        state = self.initial_state(spectrum.size(0))
        shares = self.shares_of(spectrum, present, Past(state.weight, state.mean, state.square))
        for number, one in enumerate(self.members):
            part = torch.softmax(one(raw, spectrum, present)[:, :, 0], -1) * shares[:, :, number, None]
            mixed = part if number == 0 else mixed + part
        return (torch.log(mixed * self.stage_weights) / self.temperature).unsqueeze(2)
