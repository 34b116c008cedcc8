"""How a study tells what it found: printed, as tables, as figures and in TensorBoard."""
