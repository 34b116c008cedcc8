"""Attention layers by their heads: how they are seen, compared, and silenced in any network."""
