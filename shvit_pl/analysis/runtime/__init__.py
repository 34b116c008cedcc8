"""Where the time of attention goes, by kind of operation (paper Fig. 7)."""
