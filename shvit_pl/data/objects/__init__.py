"""Images with boxes and masks of objects: from any common format to one layout, and to padded batches."""
