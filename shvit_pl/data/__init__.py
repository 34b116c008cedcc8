"""Data: opening any image dataset, and the normalization that model, export and card read from here."""
