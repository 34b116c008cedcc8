"""`fit`, `validate`, `test`, `predict` and `cache-teacher`: LightningCLI with our module and our data."""
