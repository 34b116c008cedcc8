"""What a trained model costs in use."""
