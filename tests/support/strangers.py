"""LightningModules of other projects in small: none of them knows of pruning. Each returns a module and its loaders."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as L
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchmetrics
import torchvision
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

Batches = DataLoader[Any]


def spots(
    count: int, channels: int = 3, size: tuple[int, ...] = (32, 32), seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Bright boxes on noise: (image (C, *size) in [0, 1], mask (1, *size) of 0 and 1)."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        mask = torch.zeros(1, *size)
        corner = [int(torch.randint(side // 2, (1,), generator=generator)) for side in size]
        mask[(0, *(slice(start, start + side // 3) for start, side in zip(corner, size, strict=True)))] = 1
        found.append((0.3 * torch.rand(channels, *size, generator=generator) + 0.5 * mask, mask))
    return found


def batches(items: list[Any], size: int = 4) -> Batches:
    return DataLoader(items, size)  # type: ignore[arg-type]


class CamVid(L.LightningModule):
    """As in smp's example of binary segmentation: preprocessing in ``forward``, scores at the epoch's end."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.model = smp.create_model("FPN", "resnet18", encoder_weights=None, in_channels=3, classes=classes)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.number_of_classes = classes
        mode = "binary" if classes == 1 else "multiclass"
        self.loss_fn = smp.losses.DiceLoss(mode, from_logits=True)
        self.outputs: list[dict[str, Tensor]] = []

    def forward(self, image: Tensor) -> Tensor:
        return self.model((image - self.mean) / self.std)

    def shared_step(self, batch: Any) -> dict[str, Tensor]:
        image, mask = batch
        logits = self.forward(image)
        if self.number_of_classes > 1:
            mask = (mask[:, 0] * (self.number_of_classes - 1)).long()
        return {"loss": self.loss_fn(logits, mask)}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        found = self.shared_step(batch)
        self.outputs.append(found)
        return found

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack([x["loss"] for x in self.outputs]).mean())
        self.outputs.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("valid_loss", self.shared_step(batch)["loss"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def smp_binary() -> tuple[L.LightningModule, Batches, Batches]:
    return CamVid(), batches(spots(16)), batches(spots(8, seed=1))


def smp_classes() -> tuple[L.LightningModule, Batches, Batches]:
    return CamVid(3), batches(spots(16)), batches(spots(8, seed=1))


class Digits(nn.Module):
    """Fully connected, as the template's SimpleDenseNet."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *(nn.Linear(256, width), nn.BatchNorm1d(width), nn.ReLU()),
            *(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.flatten(1))


class Template(L.LightningModule):
    """As lightning-hydra-template structures it: net and optimizer from outside, metrics that keep the loss's graph."""

    def __init__(self, net: nn.Module, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["net"])
        self.net = net
        self.criterion = nn.CrossEntropyLoss()
        self.train_acc = torchmetrics.Accuracy(task="multiclass", num_classes=4)
        self.val_acc = torchmetrics.Accuracy(task="multiclass", num_classes=4)
        self.train_loss, self.val_loss = torchmetrics.MeanMetric(), torchmetrics.MeanMetric()
        self.val_acc_best = torchmetrics.MaxMetric()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def on_train_start(self) -> None:
        self.val_loss.reset()
        self.val_acc.reset()
        self.val_acc_best.reset()

    def model_step(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch
        logits = self.forward(x)
        return self.criterion(logits, y), logits.argmax(1), y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, found, wanted = self.model_step(batch)
        self.train_loss(loss)
        self.train_acc(found, wanted)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, found, wanted = self.model_step(batch)
        self.val_loss(loss)
        self.val_acc(found, wanted)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.val_acc_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.trainer.model.parameters(), lr=self.hparams["lr"])


def labelled(count: int, size: tuple[int, int] = (16, 16), channels: int = 1) -> list[tuple[Tensor, int]]:
    return [(image, int(mask[0].argmax()) % 4) for image, mask in spots(count, channels, size)]


def template() -> tuple[L.LightningModule, Batches, Batches]:
    return Template(Digits()), batches(labelled(16)), batches(labelled(8))


class Classifier(L.LightningModule):
    """A backbone of torchvision and a head of its own: the module itself is the network."""

    def __init__(self) -> None:
        super().__init__()
        backbone = torchvision.models.mobilenet_v3_small()
        self.features, self.pool = backbone.features, nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Linear(576, 256), nn.Hardswish(), nn.Linear(256, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("acc", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-2, momentum=0.9)


def torchvision_classifier() -> tuple[L.LightningModule, Batches, Batches]:
    return Classifier(), batches(labelled(16, (48, 32), 3)), batches(labelled(8, (48, 32), 3))


class Spleen(L.LightningModule):
    """As in MONAI's tutorial of 3-D segmentation: dicts of volumes, ``_model``, two output channels."""

    def __init__(self) -> None:
        super().__init__()
        self._model = UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1, norm="batch")
        self.loss_function = DiceLoss(to_onehot_y=True, softmax=True)

    def forward(self, x: Tensor) -> Tensor:
        return self._model(x)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        loss = self.loss_function(self.forward(batch["image"]), batch["label"])
        self.log("train_loss", loss.item())
        return {"loss": loss}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss_function(self.forward(batch["image"]), batch["label"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self._model.parameters(), 1e-4)


def volumes(count: int) -> list[dict[str, Tensor]]:
    return [{"image": image, "label": mask} for image, mask in spots(count, 1, (16, 16, 8))]


def monai_volumes() -> tuple[L.LightningModule, Batches, Batches]:
    return Spleen(), batches(volumes(8), 2), batches(volumes(4), 2)


class TwoInputs(nn.Module):
    """An image and its metadata, by keyword; 13 channels, no square."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(13, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.season = nn.Embedding(4, 24)
        self.head = nn.Conv2d(24, 1, 1)

    def forward(self, image: Tensor, *, season: Tensor) -> dict[str, Tensor]:
        x = self.second(self.first(image) + self.season(season)[:, :, None, None])
        return {"logits": self.head(x)}


class Satellite(L.LightningModule):
    """As torchgeo's tasks: dicts, many channels, ``configure_models``, augmentation after the transfer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TwoInputs()
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training:
            batch = {**batch, "image": batch["image"] + 0.1 * torch.randn_like(batch["image"])}
        return batch

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        found = self(batch["image"], season=batch["season"])["logits"]
        loss: Tensor = self.criterion(found, batch["mask"])
        self.log("train_loss", loss, batch_size=4)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.criterion(self(batch["image"], season=batch["season"])["logits"], batch["mask"]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


def scenes(count: int) -> list[dict[str, Tensor]]:
    return [
        {"image": image, "mask": mask, "season": torch.tensor(number % 4)}
        for number, (image, mask) in enumerate(spots(count, 13, (32, 48)))
    ]


def satellite() -> tuple[L.LightningModule, Batches, Batches]:
    return Satellite(), batches(scenes(16)), batches(scenes(8))


STRANGERS: dict[str, Callable[[], tuple[L.LightningModule, Batches, Batches]]] = {
    "smp, binary": smp_binary,
    "smp, three classes": smp_classes,
    "lightning-hydra-template": template,
    "torchvision classifier": torchvision_classifier,
    "MONAI, volumes": monai_volumes,
    "torchgeo's kind, 13 channels and metadata": satellite,
}


class Endless(IterableDataset[tuple[Tensor, int]]):
    """Labelled images without an end or a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        while True:
            yield from labelled(16)
