"""The report of a sweep: a page, figures and tables."""
