"""`shvit-pl analyze macro`: what each stage of a design costs, beside the device's limits."""
