"""What a sweep found, in files that a person reads: a page, figures and tables."""

from shvit_pl.sweep.report.terminal import summary_lines
from shvit_pl.sweep.report.write import write_report

__all__ = ["summary_lines", "write_report"]
