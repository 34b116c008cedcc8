"""What each stage of a design costs, and what the device would allow (paper sec. 2.1, Fig. 2)."""
