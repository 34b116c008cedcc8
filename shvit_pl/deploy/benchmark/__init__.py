"""Speed of networks, measured in turns: `shvit-pl benchmark`."""
