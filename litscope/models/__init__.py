"""Networks by name, the LightningModule that trains them, its loss, metrics, optimizer and schedule."""
