"""Data: from any image dataset to batches on the device."""
