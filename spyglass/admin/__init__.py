"""What an administrator types. Nothing in here is on the wake path."""
