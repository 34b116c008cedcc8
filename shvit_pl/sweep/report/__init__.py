"""What a sweep found, in files that a person reads: a page, figures and tables."""
