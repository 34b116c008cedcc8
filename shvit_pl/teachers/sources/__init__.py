"""Where a teacher comes from: timm, a run of ours, a Hub repo or a folder."""
