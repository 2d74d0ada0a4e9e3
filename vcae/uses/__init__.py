"""What the networks are good for beside conversion."""
