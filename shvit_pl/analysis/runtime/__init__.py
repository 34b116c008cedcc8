"""`shvit-pl analyze runtime`: where the time of attention goes, by kind of operation."""
