"""How the house shows things: tables, bars of progress, colours and plots."""
