"""`shvit-pl soup`: the average of several runs' weights as a run of its own."""
