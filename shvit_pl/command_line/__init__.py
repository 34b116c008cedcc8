"""What every command reads its flags with: parsers, checks, config files, extras."""
