"""The designs that the macro cube is tested around."""

CUBE_BASES = ("s1", "s2", "s3", "s4", "tiny")
