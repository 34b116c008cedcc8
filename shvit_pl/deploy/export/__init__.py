"""`shvit-pl export`: a network becomes a file that other programs run."""
