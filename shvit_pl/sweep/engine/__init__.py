"""What runs the points of a sweep: a driver, its workers, and their attempts."""
