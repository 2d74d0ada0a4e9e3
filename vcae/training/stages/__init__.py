"""What is trained, stage by stage."""
