"""Reading of every command's flags: parsers, checks, config files, extras."""
