"""DSR: face super-resolution trained with an identity loss."""
