CUBE_BASES = ("s1", "s2", "s3", "s4", "tiny")  # the designs that the macro cube is tested around
