"""The LightningModule: loss, optimizer, metrics, distillation, resuming."""
