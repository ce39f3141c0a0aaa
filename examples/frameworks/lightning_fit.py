"""Lightning: a fit with validation, early stopping and a checkpoint of the best epoch."""

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WIDTH, ROWS, BATCH = 1024, 512, 64


class Classifier(lightning.LightningModule):
    """A perceptron with two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.layers = nn.Sequential(*hidden, nn.Linear(WIDTH, 10))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """Log the loss that early stopping uses."""
        self.log("loss", self.training_step(batch, index))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters())


data = DataLoader(TensorDataset(torch.randn(ROWS, WIDTH), torch.randint(10, (ROWS,))), BATCH)
callbacks = [EarlyStopping("loss", patience=2), ModelCheckpoint(monitor="loss")]
trainer = lightning.Trainer(max_epochs=4, callbacks=callbacks, logger=False)
trainer.fit(Classifier(), data, data)
