"""What a study has found: sums and counts, results layer by layer, and the paper's beside them."""
