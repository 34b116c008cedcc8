"""Run folders as model repositories of the Hugging Face Hub."""
